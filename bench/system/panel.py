"""What loading a panel costs: rows per second and peak memory, from Parquet, checks included.

    python -m bench.system.panel --out bench/results     # 100,000 stores x 180 days x 16 series

Every row is measured in a new process; peak memory is its largest resident set, of which
``held_gib`` is what the panel's arrays take; ``arrow_cpu_seconds`` is what reading the file alone
takes afterwards.
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

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from bench.lib.record import Row, record, table

STORES_AT_ONCE = 5_000


def main(arguments: Sequence[str] | None = None) -> list[Row]:
    options = _parser().parse_args(arguments)
    if options.measure is not None:
        print(json.dumps(measure(options.measure)))
        return []
    rows: list[Row] = []
    for order in ("sorted", "shuffled"):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "panel.parquet"
            write(path, options.stores, options.steps, options.series, shuffled=order == "shuffled")
            command = [sys.executable, "-m", "bench.system.panel", "--measure", str(path)]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            size = path.stat().st_size / 2**30
            rows.append({"order": order, "file_gib": size, **json.loads(done.stdout)})
    print(table(rows, ["order", "rows"], ["cpu_seconds", "arrow_cpu_seconds", "peak_gib"]))
    if options.out is not None:
        record(options.out, "panel", rows, {k: str(v) for k, v in vars(options).items()})
    return rows


def write(path: Path, stores: int, steps: int, series: int, *, shuffled: bool) -> None:
    """A Parquet file of random float64 series, in store order or with all rows mixed by blocks."""
    rng = np.random.default_rng(0)
    days = np.datetime64("2024-01-01") + np.arange(steps)
    names = [*(f"x{j}" for j in range(series - 2)), "pv", "gmv"]
    writer = None
    order = rng.permutation(stores) if shuffled else np.arange(stores)
    for begin in range(0, stores, STORES_AT_ONCE):
        block = order[begin : begin + STORES_AT_ONCE]
        rows = len(block) * steps
        mixed = rng.permutation(rows) if shuffled else np.arange(rows)
        store = np.char.add("shop_", np.char.zfill(block.astype(str), 6))
        text = pa.DictionaryArray.from_arrays(np.repeat(np.arange(len(block)), steps)[mixed], store)
        columns = {"shop_id": text.cast(pa.string()), "ds": np.tile(days, len(block))[mixed]}
        columns |= {name: rng.random(rows) * 100 for name in names}
        table_part = pa.table(columns)
        writer = writer or pq.ParquetWriter(path, table_part.schema)
        writer.write_table(table_part)
    assert writer is not None
    writer.close()


def measure(path: Path) -> Row:
    """Load the file once in this process."""
    from causalmmm import Panel

    begin, cpu = time.perf_counter(), time.process_time()
    panel = Panel.read(path)
    seconds, cpu = time.perf_counter() - begin, time.process_time() - cpu
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    arrow = time.process_time()
    pq.read_table(path)
    arrow = time.process_time() - arrow
    rows = len(panel.data.values)
    return {
        "rows": rows,
        "series": len(panel.nodes),
        "seconds": seconds,
        "rows_per_second": rows / seconds,
        "cpu_seconds": cpu,
        "arrow_cpu_seconds": arrow,
        "held_gib": panel.data.values.nbytes / 2**30,
        "peak_gib": peak,
    }


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Measure loading of panels.")
    parser.add_argument("--stores", type=int, default=100_000)
    parser.add_argument("--steps", type=int, default=180)
    parser.add_argument("--series", type=int, default=16)
    parser.add_argument("--out", type=Path, default=None)
    parser.add_argument("--measure", type=Path, default=None, help=argparse.SUPPRESS)
    return parser


if __name__ == "__main__":
    main()
