"""How a model is fitted: the loop, its updates, prototype graphs, checkpoints."""
