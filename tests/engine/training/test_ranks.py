"""Several processes that train one model: the same as one process, also after one of them died."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from on_ranks import trained

from causalmmm.engine.training.ranks import Ranks

PROGRAM = Path(__file__).with_name("on_ranks.py")


def torchrun(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    return subprocess.run(
        [*command, str(PROGRAM), *map(str, arguments)],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )


def test_two_ranks_are_as_one_and_go_on_after_one_was_killed(tmp_path: Path) -> None:
    """The three stores of an update are shared one to two. Rank 1 is killed after five epochs."""
    checkpoint, weights = tmp_path / "checkpoint.pt", tmp_path / "weights.pt"
    killed = torchrun(checkpoint, weights, "die")
    assert killed.returncode != 0
    assert "SIGKILL" in killed.stderr, killed.stderr[-2000:]
    assert checkpoint.exists()
    assert not weights.exists()
    resumed = torchrun(checkpoint, weights, "resume")
    assert resumed.returncode == 0, resumed.stderr[-2000:]
    alone = trained(None)
    together = torch.load(weights)
    for name, mine in alone.state_dict().items():
        torch.testing.assert_close(together[name], mine, rtol=1e-3, atol=1e-4)


def test_ranks_share_all_stores_of_an_update() -> None:
    for stores, count in ((3, 2), (8, 3), (5, 5)):
        shares = [range(stores)[Ranks(rank, count).share(stores)] for rank in range(count)]
        assert [store for share in shares for store in share] == list(range(stores))
        assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_more_ranks_than_stores_of_an_update_are_refused() -> None:
    with pytest.raises(ValueError, match="2 stores cannot be shared by 3 processes; start fewer"):
        Ranks(0, 3).share(2)
