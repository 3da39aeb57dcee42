"""``causalmmm score`` on a Parquet data set many times larger than the memory of its processes.

    python -m bench.system.scoring --stores 20000 100000 --workers 2 --out bench/results

A model of N = 13 series forecasts 7 steps for data sets of two sizes, in files of ``--per-file``
stores with histories of T = 180. Peaks are of resident memory (VmHWM), of the process that hands
out the files and of the largest of its workers: they must not grow with the data set. ``data`` is
what the rows take in memory, as Arrow tables.
"""

from __future__ import annotations

import argparse
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
from causalmmm import CausalMMM, Panel
from causalmmm.simulation import simulate


def main(arguments: Sequence[str] | None = None) -> list[Row]:
    options = _parser().parse_args(arguments)
    panel, _ = simulate("airmmm", stores=options.per_file, steps=options.steps, seed=1)
    model = CausalMMM(hidden=options.hidden, epochs=2, horizon=7, seed=0, device="cpu")
    model.fit(panel.select(panel.stores[:40].tolist()), progress=False)
    rows = []
    for stores in options.stores:
        with tempfile.TemporaryDirectory(dir=options.place) as folder:
            workspace = Path(folder)
            model.export_onnx(workspace / "model.onnx", draws=options.draws)
            size = write(panel, stores, workspace / "panel")
            rows.append(measure(workspace, stores, size, options))
        print(table(rows[-1:], ["stores"], [name for name in rows[-1] if name != "stores"]))
    record(options.out, "scoring", rows, {k: v for k, v in vars(options).items() if k != "place"})
    return rows


def write(panel: Panel, stores: int, folder: Path) -> int:
    """Files of the panel's stores under ever new names, each of another size; bytes in memory."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    frame = panel.to_frame()
    frame[panel.nodes] = frame[panel.nodes].astype(np.float32)
    names = frame.pop(panel.schema.store).astype(str).to_numpy()
    size = 0
    for number in range(stores // panel.n_stores):
        scale = rng.lognormal(size=panel.n_stores).astype(np.float32).repeat(panel.lengths)
        scaled = frame.assign(**{name: frame[name] * scale for name in panel.nodes})
        scaled[panel.schema.store] = np.char.add(f"{number}-", names.astype(str))
        rows = pa.Table.from_pandas(scaled, preserve_index=False)
        pq.write_table(rows, folder / f"part-{number:05}.parquet")
        size += rows.nbytes
    return size


def measure(workspace: Path, stores: int, size: int, options: argparse.Namespace) -> Row:
    command = [sys.executable, "-c", "from causalmmm.cli import main; main()"]
    command += ["score", str(workspace / "model.onnx"), "--input", str(workspace / "panel")]
    command += ["--output", str(workspace / "scores"), "--workers", str(options.workers), "--quiet"]
    peaks: dict[int, int] = {}
    began = time.perf_counter()
    with subprocess.Popen(command) as run:
        while run.poll() is None:
            for pid in (run.pid, *children(run.pid)):
                peaks[pid] = max(peaks.get(pid, 0), peak(pid))
            time.sleep(0.2)
    seconds = time.perf_counter() - began
    if run.returncode:
        raise RuntimeError(f"scoring ended with exit code {run.returncode}")
    parent_peak = peaks.pop(run.pid)
    answer_files = (workspace / "scores").glob("*.parquet")
    answers = sum(pq.read_metadata(path).num_rows for path in answer_files)
    return {
        "stores": stores,
        "files": len(list((workspace / "panel").iterdir())),
        "workers": options.workers,
        "answers": answers,
        "data_megabytes": size / 1e6,
        "seconds": seconds,
        "stores_per_second": stores / seconds,
        "worker_peak_megabytes": max(peaks.values()) / 1e6,
        "parent_peak_megabytes": parent_peak / 1e6,
    }


def children(pid: int) -> list[int]:
    try:
        threads = list(Path(f"/proc/{pid}/task").iterdir())
        return [int(child) for task in threads for child in (task / "children").read_text().split()]
    except OSError:  # it has just ended
        return []


def peak(pid: int) -> int:
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0
    peaks = [line.split()[1] for line in status.splitlines() if line.startswith("VmHWM")]
    return 1024 * int(peaks[0]) if peaks else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--stores", type=int, nargs="+", default=[20_000, 100_000])
    parser.add_argument("--per-file", type=int, default=500)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--steps", type=int, default=180)
    parser.add_argument("--hidden", type=int, default=64)
    parser.add_argument("--draws", type=int, default=None, help="default: the model's")
    parser.add_argument("--place", type=Path, help="folder for the data set; default: temporary")
    parser.add_argument("--out", type=Path, default=Path("bench/results"))
    return parser


if __name__ == "__main__":
    main()
