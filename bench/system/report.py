"""What a report costs: seconds, peak memory and size of the page.

    python -m bench.system.report --out bench/results    # 50 and 1,000 stores, weekly and daily

Weekly panels have the response regression (returns, paths and intervals), daily ones the amortised
model. Models are fitted beforehand; a row is one ``write_report`` in a new process, with the last
steps of the panel hidden from the fit. ``cpu_seconds`` counts all threads; peak memory is the
largest resident set, libraries included.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from bench.lib.record import Row, record, table

HIDDEN = 13
CASES = {
    "weekly-50": ("weekly-mmm", 50, 156),
    "weekly-1000": ("weekly-mmm", 1000, 156),
    "daily-50": ("airmmm", 50, 365),
    "daily-1000": ("airmmm", 1000, 365),
}


def main(arguments: Sequence[str] | None = None) -> list[Row]:
    options = _parser().parse_args(arguments)
    if options.measure is not None:
        print(json.dumps(measure(options.measure)))
        return []
    rows: list[Row] = []
    for case in options.case:
        with tempfile.TemporaryDirectory() as folder:
            prepare(Path(folder), *CASES[case])
            command = [sys.executable, "-m", "bench.system.report", "--measure", folder]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
        rows.append({"case": case, **json.loads(done.stdout.splitlines()[-1])})
        print(table(rows[-1:], ["case"], list(rows[-1])[1:]))
    if options.out is not None:
        record(options.out, "report", rows, {k: str(v) for k, v in vars(options).items()})
    return rows


def prepare(folder: Path, preset: str, stores: int, steps: int) -> None:
    """A fitted model, and the panel with its last steps, in a folder."""
    from causalmmm import CausalMMM
    from causalmmm.simulation import simulate

    panel, _ = simulate(preset, seed=0, stores=stores, steps=steps)
    model = CausalMMM(seed=0, epochs=3).fit(panel.split(HIDDEN)[0], progress=False)
    model.save(folder / "model")
    panel.to_frame().to_parquet(folder / "panel.parquet", index=False)


def measure(folder: Path) -> Row:
    """One report in this process."""
    from causalmmm import CausalMMM, Panel
    from causalmmm.report import write_report

    model = CausalMMM.load(folder / "model")
    panel = Panel.read(folder / "panel.parquet", model.schema_)
    begin, cpu = time.perf_counter(), time.process_time()
    page = write_report(model, panel, folder / "report.html")
    return {
        "stores": panel.n_stores,
        "seconds": time.perf_counter() - begin,
        "cpu_seconds": time.process_time() - cpu,
        "page_mb": page.stat().st_size / 1e6,
        "peak_gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
    }


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Measure reports.")
    parser.add_argument("--case", nargs="+", choices=list(CASES), default=list(CASES))
    parser.add_argument("--out", type=Path, default=None)
    parser.add_argument("--measure", type=Path, default=None, help=argparse.SUPPRESS)
    return parser


if __name__ == "__main__":
    main()
