"""Defaults of an experiment's options, for a full run and for ``--quick``."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def with_defaults(
    options: argparse.Namespace, usual: Mapping[str, Any], quick: Mapping[str, Any]
) -> argparse.Namespace:
    """Options with None replaced by the ``usual`` values, with ``--quick`` by those of ``quick``;
    ``out`` becomes bench/results, or runs."""
    for name, value in ({**usual, **quick} if options.quick else usual).items():
        if getattr(options, name) is None:
            setattr(options, name, value)
    options.out = options.out or Path("runs" if options.quick else "bench/results")
    return options
