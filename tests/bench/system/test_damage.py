"""The matrix of damage, a short run: nothing lost, nothing silent, no traceback."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

from bench.system.damage import matrix


def test_damage_is_refused_and_loses_nothing(tmp_path: Path) -> None:
    asked = Namespace(flips=40, kills=0, disks=0, panels=25, requests=100, seed=1)
    rows = {row["tried"]: row for row in matrix(tmp_path, asked)}
    for row in rows.values():
        assert (row["lost"], row["silent"], row["tracebacks"]) == (0, 0, 0), row
    for kind in ("a checkpoint", "weights", "model.json", "an exported file"):
        assert rows[f"flipped bits of {kind}"]["refused"] == 10
    assert rows["fuzzed panels"]["refused"] > 5
    asked_of_server = rows["requests to a server in 512 MiB"]
    assert min(asked_of_server["refused"], asked_of_server["answered"]) > 10
