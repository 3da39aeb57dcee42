"""Which fits depend on the number of threads, and what ``deterministic=True`` costs.

    python -m bench.system.threads --out bench/results

Every fit is a process of its own with that many threads; ``bits`` is a digest of its weights, or of
its contributions where it has none: equal bits have equal digests.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from bench.lib.record import Row, record, table

PANELS: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "amortised, 20 x 60": ("paper-small", {"stores": 20, "steps": 60}, {"epochs": 4}),
    "amortised, 300 x 100": ("paper-small", {"stores": 300, "steps": 100}, {"epochs": 2}),
    "regression, 20 x 104": ("weekly-mmm", {"stores": 20, "steps": 104}, {}),
}


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--threads", type=int, nargs="+", default=[1, 2, 4])
    options.add_argument("--out", type=Path, default=None)
    options.add_argument("--one", nargs=2, default=None, help=argparse.SUPPRESS)
    asked = options.parse_args()
    if asked.one is not None:
        print(json.dumps(fitted(asked.one[0], asked.one[1] == "True")))
        return
    rows = [
        {"fit": name, "deterministic": deterministic, "threads": threads}
        | _apart(name, deterministic, threads)
        for name in PANELS
        for deterministic in (False, True)
        for threads in asked.threads
    ]
    print(table(rows, ("fit", "deterministic", "threads", "bits"), ("seconds", "cpu_seconds")))
    if asked.out is not None:
        record(asked.out, "threads", rows, vars(asked))


def fitted(name: str, deterministic: bool) -> Row:
    """One fit in this process: its seconds, and a digest of what it came to."""
    import numpy as np

    from causalmmm import CausalMMM, simulate

    preset, size, settings = PANELS[name]
    panel, _ = simulate(preset, seed=0, **size)
    model = CausalMMM(**settings, deterministic=deterministic, device="cpu")
    began, cpu = time.perf_counter(), time.process_time()
    model.fit(panel, progress=False)
    seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
    digest = hashlib.sha256()
    if model.regime_ == "regression":
        digest.update(np.ascontiguousarray(model.history_.select_dtypes("number")).tobytes())
        digest.update(np.ascontiguousarray(model.roi(panel).select_dtypes("number")).tobytes())
    else:
        for tensor in model.model_.state_dict().values():
            digest.update(tensor.numpy().tobytes())
    return {"bits": digest.hexdigest()[:12], "seconds": seconds, "cpu_seconds": cpu}


def _apart(name: str, deterministic: bool, threads: int) -> Row:
    command = [sys.executable, "-W", "ignore", "-m", __spec__.name, "--one", name]
    done = subprocess.run(
        [*command, str(deterministic)],
        env=os.environ | {"OMP_NUM_THREADS": str(threads)},
        stdout=subprocess.PIPE,
        check=True,
    )
    row: Row = json.loads(done.stdout)
    return row


if __name__ == "__main__":
    main()
