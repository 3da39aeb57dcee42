"""Per-store causal marketing mix modelling: graphs, forecasts and effects from one panel."""
