"""What an experiment's options are where nobody gave them, in full and with ``--quick``."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def with_defaults(
    options: argparse.Namespace, usual: Mapping[str, Any], quick: Mapping[str, Any]
) -> argparse.Namespace:
    """Options with ``usual`` values, or those of ``quick``, in place of None, and where to write:
    bench/results, or runs for what is quick."""
    for name, value in ({**usual, **quick} if options.quick else usual).items():
        if getattr(options, name) is None:
            setattr(options, name, value)
    options.out = options.out or Path("runs" if options.quick else "bench/results")
    return options
