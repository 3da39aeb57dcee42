"""The matrix of damage: what was tried, what was refused, what was answered, and what went wrong.

    python -m bench.system.damage --out bench/results    # as root or in unshare -rm: mounts disks

Flipped bits of checkpoints, models and exported files, fuzzed panels, ``fit`` and ``score`` killed
or out of disk on the way (``interrupted``), and requests to a server under a memory limit
(``generated``). "lost" is a result that was there and is not, or a run that goes on to other bits;
"silent" is damage that was accepted and changes an answer, or an answer that is not finite;
"tracebacks" are exceptions that are none of the package's refusals. All three must be zero: the
exit code says so.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from bench.lib.record import Row, record, table
from bench.system import generated, interrupted
from bench.system.interrupted import GOLDEN
from causalmmm import CausalMMM, Panel, load, validate
from causalmmm.findings import RefusedInput
from causalmmm.runtime import OnnxModel
from causalmmm.simulation import simulate

SETTINGS: dict[str, Any] = {"structure": "learned", "epochs": 3, "hidden": 8, "draws": 8}
LIMIT_MB = 512  # of the server
_ENDS = ("refused", "answered", "lost", "silent", "tracebacks")
_DIGEST = "refused by a digest before anything was used"
_AGAIN = "the same command went on to the same bytes, and left no partial file"


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--flips", type=int, default=200)
    options.add_argument("--kills", type=int, default=50)
    options.add_argument("--disks", type=int, default=20)
    options.add_argument("--panels", type=int, default=500)
    options.add_argument("--requests", type=int, default=10_000)
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--out", type=Path, default=None)
    asked = options.parse_args()
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as folder:
        rows = matrix(Path(folder), asked)
    print(table(rows, ("tried", "then"), ("number", *_ENDS)))
    if asked.out is not None:
        record(asked.out, "damage", rows, vars(asked))
    return int(any(row[bad] for row in rows for bad in ("lost", "silent", "tracebacks")))


def matrix(folder: Path, asked: argparse.Namespace) -> list[Row]:
    """A row for every kind of damage that was asked for."""
    panel = simulate("paper-small", seed=3, stores=8, steps=40, channels=2)[0]
    rng = random.Random(asked.seed)
    rows = [*_flipped(folder, panel, asked.flips, rng)] if asked.flips else []
    fuzz = [lambda: fuzzed(panel, rng)] * asked.panels
    rows += [_row("fuzzed panels", fuzz, "validate and fit agree; finite values, or findings")]
    rows += _interrupted(folder, panel, asked.kills, asked.disks, rng)
    if asked.requests:
        with generated.serving(GOLDEN / "model.onnx", GOLDEN / "panel.csv", LIMIT_MB) as server:
            ask = generated.requests(server, asked.requests, rng)
            row = _row(f"requests to a server in {LIMIT_MB} MiB", ask, "")
            row["then"] = (
                f"the server still answers; at most {server.peak_mb():.0f} MiB were resident"
            )
        rows.append(row)
    return [row for row in rows if row["number"]]


def _row(tried: str, tries: list[Callable[[], str]], then: str) -> Row:
    ends = Counter(one() for one in tries)
    row = {"tried": tried, "number": len(tries), **{end: ends[end] for end in _ENDS}, "then": then}
    print(table([row], ("tried",), ("number", *_ENDS)), file=sys.stderr)
    return row


def _flipped(folder: Path, panel: Panel, number: int, rng: random.Random) -> list[Row]:
    model = CausalMMM(**SETTINGS, device="cpu")
    model.fit(panel, progress=False, checkpoint=folder / "run.pt")
    model.save(folder / "model")
    exported = folder / "model.onnx"
    exported.write_bytes((GOLDEN / "model.onnx").read_bytes())

    def resume() -> None:
        again = CausalMMM(**SETTINGS, device="cpu")
        again.fit(panel, progress=False, checkpoint=folder / "run.pt", resume=True)

    places: dict[str, tuple[Path, Callable[[], object]]] = {
        "a checkpoint": (folder / "run.pt", resume),
        "weights": (folder / "model/model.safetensors", lambda: load(folder / "model")),
        "model.json": (folder / "model/model.json", lambda: load(folder / "model")),
        "an exported file": (exported, lambda: OnnxModel(exported, threads=1)),
    }
    return [
        _row(f"flipped bits of {what}", flips(path, use, number // len(places), rng), _DIGEST)
        for what, (path, use) in places.items()
    ]


def _interrupted(
    folder: Path, panel: Panel, kills: int, disks: int, rng: random.Random
) -> list[Row]:
    if not kills and not disks:
        return []
    commands = [
        interrupted.fit_command(folder, panel, SETTINGS | {"epochs": 6}),
        interrupted.score_command(folder),
    ]
    rows = [
        _row(
            f"kills of {command.name}",
            [lambda c=command: interrupted.killed(c, rng)] * (kills // 2),  # type: ignore[misc]
            _AGAIN,
        )
        for command in commands
    ]
    if disks and not interrupted.may_mount(folder / "disk"):
        print("no full disks: mounting one takes root, or unshare -rm", file=sys.stderr)
        return rows
    return rows + [
        _row(
            f"full disks under {command.name}",
            [lambda c=command: interrupted.out_of_disk(c, rng)] * (disks // 2),  # type: ignore[misc]
            f"refused without a partial file; with space {_AGAIN}",
        )
        for command in commands
    ]


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
                    generated.ODD
                )
            case 1:
                frame[frame.columns[rng.randrange(frame.shape[1])]] = rng.choice(generated.ODD)
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


if __name__ == "__main__":
    sys.exit(main())
