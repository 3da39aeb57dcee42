"""Which share of the package's lines its tests run, by room, from the data of ``make coverage``.

    make coverage                                               # runs all tests, then this
    python -m bench.system.coverage build/coverage --out bench/results

Lines that a fresh process runs (a program of a test, a worker of ``score``) are not counted, nor is
what C++, CUDA and Triton compile.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from pathlib import Path

from coverage import Coverage

from bench.lib.record import Row, record, table


def main(arguments: Sequence[str] | None = None) -> list[Row]:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("data", type=Path, help="what coverage.py wrote")
    parser.add_argument("--out", type=Path, default=None)
    options = parser.parse_args(arguments)
    coverage = Coverage(data_file=str(options.data), config_file=False)
    coverage.load()
    measured = sorted(coverage.get_data().measured_files())
    counts = [(path, *_counts(coverage, path)) for path in measured]
    rows = rooms(counts)
    print(table(rows, ["room"], ["lines", "run", "percent"]))
    if options.out is not None:
        record(options.out, "coverage", rows, vars(options))
    return rows


def rooms(counts: Iterable[tuple[str, int, int]]) -> list[Row]:
    """Lines and those that ran, summed by room, from (path, lines, lines that ran) of files."""
    sums: dict[str, list[int]] = {}
    for path, lines, run in counts:
        for room in (room_of(path), "all"):
            total = sums.setdefault(room, [0, 0])
            total[0] += lines
            total[1] += run
    ordered = sorted(sums, key=lambda room: (room == "all", room))
    return [
        {"room": room, "lines": lines, "run": run, "percent": round(100 * run / max(lines, 1), 1)}
        for room in ordered
        for lines, run in [sums[room]]
    ]


def room_of(path: str) -> str:
    """The folder of a file as the source tree has it, whether the package is installed or not, such
    as engine/nn."""
    parts = Path(path).parts
    if "causalmmm" in parts:
        parts = parts[len(parts) - parts[::-1].index("causalmmm") :]
    else:
        parts = parts[next(k for k, part in enumerate(parts) if part in ("engine", "kernels")) :]
    top = parts[0] if parts[0] in ("engine", "kernels") else "python/causalmmm"
    inside = parts[1:] if top == parts[0] else parts
    return f"{top}/{inside[0]}" if len(inside) > 1 else top


def _counts(coverage: Coverage, path: str) -> tuple[int, int]:
    _, lines, _, missing, _ = coverage.analysis2(path)
    return len(lines), len(lines) - len(missing)


if __name__ == "__main__":
    main()
