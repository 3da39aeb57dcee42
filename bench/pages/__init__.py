"""Pages of the documentation that are written by commands, never by hand."""
