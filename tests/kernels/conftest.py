"""Shared cases lie beside the tests, and what benchmarks share with them beside the benchmarks."""

from __future__ import annotations

import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parents[1] / "bench" / "kernels")]
