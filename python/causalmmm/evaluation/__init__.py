"""What a fitted model is worth: on hidden steps, rolling origins, and a simulation's truth."""
