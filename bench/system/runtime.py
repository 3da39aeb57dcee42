"""What it takes to begin with an exported file: import, load, first answer, memory, space on disk.

    make runtime-check                               # an installation of [runtime], without torch
    python -m bench.system.runtime --python build/runtime/bin/python --out bench/results

A model of N = 13 series with default settings is exported; every figure but the space is the median
over ``--rounds`` fresh processes of the interpreter ``--python``.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from bench.lib.record import Row, record, table
from causalmmm import CausalMMM
from causalmmm.simulation import simulate

CODE = """
import json, sys, time
began = time.perf_counter()
from causalmmm.runtime import OnnxModel
imported = time.perf_counter()
model = OnnxModel(sys.argv[1], threads=1)
loaded = time.perf_counter()
model.answer(sys.argv[2], horizon=7)
answered = time.perf_counter()
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
print(json.dumps({
    "import_seconds": imported - began,
    "load_seconds": loaded - imported,
    "first_answer_seconds": answered - loaded,
    "peak_megabytes": int(status["VmHWM"].split()[0]) * 1024 / 1e6,
}))
"""
SPACE = """
import sysconfig
from importlib.util import find_spec
from pathlib import Path
files = [path for path in Path(sysconfig.get_path("purelib")).rglob("*") if path.is_file()]
print(sum(path.stat().st_size for path in files) / 1e6, find_spec("torch") is not None)
"""


def main(arguments: Sequence[str] | None = None) -> list[Row]:
    options = _parser().parse_args(arguments)
    panel, _ = simulate("airmmm", stores=20, steps=180, seed=1)
    model = CausalMMM(epochs=2, horizon=7, seed=0, device="cpu").fit(panel, progress=False)
    with tempfile.TemporaryDirectory() as folder:
        path, one = Path(folder) / "model.onnx", Path(folder) / "panel.csv"
        model.export_onnx(path)
        panel.to_frame(panel.stores[:1].tolist()).to_csv(one, index=False)
        outputs = [_output(options.python, CODE, path, one) for _ in range(options.rounds)]
        rounds = [json.loads(output) for output in outputs]
        row: Row = {key: statistics.median(r[key] for r in rounds) for key in rounds[0]}
        row["file_megabytes"] = path.stat().st_size / 1e6
    space, torch = _output(options.python, SPACE).split()
    row |= {"installed_megabytes": float(space), "torch_installed": torch}
    print(table([row], ["torch_installed"], [key for key in row if key != "torch_installed"]))
    record(options.out, "runtime", [row], vars(options))
    return [row]


def _output(python: Path, code: str, *arguments: Path) -> str:
    command = [str(python), "-P", "-c", code, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--python", type=Path, default=Path(sys.executable))
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--out", type=Path, default=Path("bench/results"))
    return parser


if __name__ == "__main__":
    main()
