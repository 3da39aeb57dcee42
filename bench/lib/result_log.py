"""A result file that grows measurement by measurement: a run that ends early loses nothing, and
rows that are there already are not measured again."""

from __future__ import annotations

import csv
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.lib.record import Row, environment, record


class ResultLog:
    """Rows of ``NAME.csv`` in ``out``, those of earlier runs included.

    settings  of this run, for the header; ``settings["again"]`` replaces rows that are there.
    """

    def __init__(self, out: Path, name: str, settings: Mapping[str, Any]) -> None:
        self.out, self.name, self.settings = out, name, settings
        self.rows = read_rows(out / f"{name}.csv")
        self.revision = environment()["revision"]

    def add(self, key: Row, measure: Callable[[], Sequence[Row]]) -> None:
        """Rows of one measurement, each with ``key``, its seconds and its revision, in place of
        those with the same key; written at once."""
        matching = [_matches(row, key) for row in self.rows]
        if any(matching) and not self.settings["again"]:
            return
        began = time.perf_counter()
        measured = measure()
        notes = {"seconds": time.perf_counter() - began, "revision": self.revision}
        self.rows = [row for row, old in zip(self.rows, matching, strict=True) if not old]
        self.rows += [key | notes | row for row in measured]
        record(self.out, self.name, self.rows, self.settings)


def read_rows(path: Path) -> list[Row]:
    """Rows of an earlier run, numbers as numbers; none where there is no file."""
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return [{k: _number(v) for k, v in row.items() if v != ""} for row in csv.DictReader(file)]


def _matches(row: Row, key: Row) -> bool:
    return all(str(row.get(name)) == str(value) for name, value in key.items())


def _number(text: str) -> Any:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
