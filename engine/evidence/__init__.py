"""Closed-form statistics of pairs of series: what one window says of every edge. No parameters."""
