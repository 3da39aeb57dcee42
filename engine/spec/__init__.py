"""Records that say what a model is and what it is given: settings, calendar, series. No torch."""
