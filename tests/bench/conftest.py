"""Benchmarks are scripts beside the package, not part of it: make their folders importable."""

from __future__ import annotations

import sys
from pathlib import Path

BENCH = Path(__file__).parents[2] / "bench"
sys.path[:0] = [str(BENCH), str(BENCH / "experiments")]
