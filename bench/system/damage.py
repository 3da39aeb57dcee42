"""The matrix of damage: what was tried, what was refused, what was answered, and what went wrong.

Flipped bits of checkpoints and models, weights of another fit, kills of ``fit`` on the way, fuzzed
panels, and requests to a server under a memory limit. "lost" is a model or a checkpoint that was
there and is not, or a resumed run that ends with other bits; "silent" is damage that was accepted
and changes an answer, or an answer that is not finite; "tracebacks" are exceptions that are none of
the package's refusals. All three must be zero: the exit code says so.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from bench.lib.record import record, table
from causalmmm import CausalMMM, Panel, load, validate
from causalmmm.findings import RefusedInput
from causalmmm.simulation import simulate

GOLDEN = Path("tests/golden/format-1")
SETTINGS: dict[str, Any] = {"structure": "learned", "epochs": 3, "hidden": 8, "draws": 8}
_CLI = "from causalmmm.cli import main; main()"
_ODD = (None, "", "x", -1.0, 0.0, 1e30, -1e20, 1e-40, float("inf"), float("nan"), "1.234,5", True)


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--flips", type=int, default=200)
    options.add_argument("--kills", type=int, default=50)
    options.add_argument("--panels", type=int, default=500)
    options.add_argument("--requests", type=int, default=10_000)
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--out", type=Path, default=None)
    asked = options.parse_args()
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as folder:
        rows = matrix(Path(folder), asked)
    print(
        table(rows, ("tried",), ("number", "refused", "answered", "lost", "silent", "tracebacks"))
    )
    if asked.out is not None:
        record(asked.out, "damage", rows, vars(asked))
    return int(any(row[bad] for row in rows for bad in ("lost", "silent", "tracebacks")))


def matrix(folder: Path, asked: argparse.Namespace) -> list[dict[str, Any]]:
    """A row for every kind of damage."""
    panel = simulate("paper-small", seed=3, stores=8, steps=40, channels=2)[0]
    model = CausalMMM(**SETTINGS, device="cpu")
    model.fit(panel, progress=False, checkpoint=folder / "run.pt")
    model.save(folder / "model")
    rng = random.Random(asked.seed)

    def resume() -> None:
        again = CausalMMM(**SETTINGS, device="cpu")
        again.fit(panel, progress=False, checkpoint=folder / "run.pt", resume=True)

    kinds: dict[str, list[Callable[[], str]]] = {
        "flipped bits of a checkpoint": flips(folder / "run.pt", resume, asked.flips // 3, rng),
        "flipped bits of weights": flips(
            folder / "model/model.safetensors",
            lambda: load(folder / "model"),
            asked.flips // 3,
            rng,
        ),
        "flipped bits of model.json": flips(
            folder / "model/model.json", lambda: load(folder / "model"), asked.flips // 3, rng
        ),
        "fuzzed panels": [lambda: fuzzed(panel, rng) for _ in range(asked.panels)],
        "killed fits": [lambda: killed(folder, panel, rng) for _ in range(asked.kills)],
        "requests": requests(asked.requests, rng),
    }
    rows = []
    for kind, tries in kinds.items():
        ends = Counter(one() for one in tries)
        names = ("refused", "answered", "lost", "silent", "tracebacks")
        rows.append({"tried": kind, "number": len(tries), **{name: ends[name] for name in names}})
    return rows


def flips(
    path: Path, use: Callable[[], object], number: int, rng: random.Random
) -> list[Callable[[], str]]:
    """One bit of a file changed; it is put back afterwards."""

    def flip() -> str:
        content = path.read_bytes()
        damaged = bytearray(content)
        damaged[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
        path.write_bytes(damaged)
        try:
            end = end_of(use)
            return "silent" if end == "answered" else end
        finally:
            path.write_bytes(content)

    return [flip] * number


def end_of(use: Callable[[], object]) -> str:
    """ "answered", "refused" by one of the package's own errors, or "tracebacks"."""
    try:
        use()
    except RefusedInput as refused:
        return "refused" if refused.report.errors else "tracebacks"
    except Exception as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return "tracebacks"
    return "answered"


def fuzzed(panel: Panel, rng: random.Random) -> str:
    """A table with odd cells, rows and columns: ``validate`` and ``from_frame`` must agree."""
    frame = panel.to_frame().astype(object)
    for _ in range(rng.randrange(1, 4)):
        match rng.randrange(6):
            case 0:
                frame.iloc[rng.randrange(len(frame)), rng.randrange(frame.shape[1])] = rng.choice(
                    _ODD
                )
            case 1:
                frame[frame.columns[rng.randrange(frame.shape[1])]] = rng.choice(_ODD)
            case 2:
                frame = frame.drop(index=frame.index[rng.randrange(len(frame))])
            case 3:
                frame = pd.concat([frame, frame.iloc[[rng.randrange(len(frame))]]])
            case 4 if frame.shape[1] > 1:
                frame = frame.drop(columns=frame.columns[rng.randrange(frame.shape[1])])
            case _:
                frame = frame.sample(frac=1.0, random_state=rng.randrange(1000))
        frame = frame.reset_index(drop=True).astype(object)
    try:
        report = validate(frame, panel.schema)
    except Exception as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return "tracebacks"
    end = end_of(lambda: Panel.from_frame(frame, panel.schema))
    if end == "answered":
        read = Panel.from_frame(frame, panel.schema)
        if not np.isfinite(read.data.values).all():
            return "silent"
    return end if (end == "answered") == report.ok or end == "tracebacks" else "silent"


def killed(folder: Path, panel: Panel, rng: random.Random) -> str:
    """``fit`` killed at some moment, then resumed: the weights of a run that was never killed."""
    data, out = folder / "panel.csv", folder / "killed"
    if not data.exists():
        panel.to_frame().to_csv(data, index=False)
    command = [sys.executable, "-c", _CLI, "fit", str(data), "-o", str(out), "-q"]
    command += [
        part for name, value in SETTINGS.items() for part in ("--set", f"model.{name}={value}")
    ]
    if not (folder / "whole").exists():
        whole = [str(folder / "whole") if part == str(out) else part for part in command]
        began = time.monotonic()
        subprocess.run(whole, check=True, env={**os.environ, "CUDA_VISIBLE_DEVICES": ""})
        (folder / "seconds").write_text(str(time.monotonic() - began))
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as run:
        time.sleep(rng.random() * float((folder / "seconds").read_text()))
        run.send_signal(rng.choice([signal.SIGKILL, signal.SIGTERM, signal.SIGINT]))
    checkpoint = folder / "killed.checkpoint"
    if not out.exists():
        more = ["--resume"] if checkpoint.exists() else []
        done = subprocess.run([*command, *more], capture_output=True, text=True, check=False)
        if done.returncode:
            print(done.stderr, file=sys.stderr)
            return "tracebacks" if "Traceback" in done.stderr else "lost"
    ours, theirs = (folder / name / "model.safetensors" for name in ("killed", "whole"))
    same = ours.read_bytes() == theirs.read_bytes()
    left = [path.name for path in folder.iterdir() if path.name.startswith(".killed")]
    subprocess.run(["rm", "-r", str(out)], check=True)
    checkpoint.unlink(missing_ok=True)
    return "answered" if same and not left else "lost"


def requests(number: int, rng: random.Random) -> list[Callable[[], str]]:
    """Requests to a server of the exported model in ``tests/golden``, most of them damaged."""
    if not number:
        return []
    from fastapi.testclient import TestClient

    from causalmmm.runtime import OnnxModel
    from causalmmm.serving import create_app

    model = OnnxModel(GOLDEN / "model.onnx", threads=1)
    client = TestClient(create_app(model), raise_server_exceptions=False)
    frame = pd.read_csv(GOLDEN / "panel.csv")
    good = {str(name): frame[name].tolist() for name in frame}

    def ask() -> str:
        columns = {name: list(cells) for name, cells in good.items()}
        for _ in range(rng.randrange(3)):
            name = rng.choice(list(columns))
            match rng.randrange(4):
                case 0:
                    columns[name][rng.randrange(len(columns[name]))] = rng.choice(_ODD)
                case 1:
                    columns[name] = columns[name][: rng.randrange(len(columns[name]) + 1)] or [1]
                case 2:
                    columns[rng.choice(("x" * rng.randrange(1, 400), "y"))] = columns.pop(name)
                case _:
                    columns |= {f"c{k}": [1] for k in range(rng.choice((1, 2000)))}
            columns = columns or dict(good)
        body = json.dumps({"panel": columns}).encode()
        if rng.random() < 0.1:
            body = body[: rng.randrange(len(body))]
        path = rng.choice(("/graph", "/predict", "/decompose"))
        answer = client.post(path, content=body, headers={"content-type": "application/json"})
        if answer.status_code >= 500:
            return "tracebacks"
        if answer.status_code != 200:
            return "refused" if answer.json()["findings"] else "silent"
        finite = all(
            cell is not None for column in answer.json()["columns"].values() for cell in column
        )
        return "answered" if finite else "silent"

    return [ask] * number


if __name__ == "__main__":
    sys.exit(main())
