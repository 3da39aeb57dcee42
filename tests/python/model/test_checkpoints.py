"""A run goes on from its own, whole checkpoint to the same bits, and from no other file."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from causalmmm import CausalMMM, ModelError, Panel, PanelError
from causalmmm.model import demand
from causalmmm.model.demand import memory_available, memory_needed
from causalmmm.simulation import simulate

QUICK: dict[str, Any] = {
    "structure": "learned",
    "epochs": 4,
    "hidden": 8,
    "lags": 2,
    "ar_lags": 2,
    "draws": 20,
    "device": "cpu",
}


class Interrupted(Exception):
    pass


def fit(panel: Panel, settings: dict[str, Any], *, stop: int = -1, **options: Any) -> CausalMMM:
    """A fit that is interrupted after so many epochs."""
    epochs: list[object] = []

    def count(report: object) -> None:
        epochs.append(report)
        if len(epochs) == stop:
            raise Interrupted

    return CausalMMM(**settings).fit(panel, progress=False, on_epoch=count, **options)


@pytest.fixture(scope="module")
def panel() -> Panel:
    return simulate("paper-small", seed=3, stores=8, steps=40, channels=2)[0]


@pytest.fixture(scope="module")
def checkpoint(panel: Panel, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """What a run of four epochs leaves when it is interrupted after two."""
    path = tmp_path_factory.mktemp("run") / "run.pt"
    with pytest.raises(Interrupted):
        fit(panel, QUICK, stop=2, checkpoint=path)
    return path.read_bytes()


def refused(panel: Panel, settings: dict[str, Any], path: Path, **options: Any) -> str:
    with pytest.raises(ModelError) as error:
        fit(panel, settings, checkpoint=path, **{"resume": True, **options})
    return str(error.value)


def test_an_interrupted_run_resumes_to_the_same_bits(
    panel: Panel, checkpoint: bytes, tmp_path: Path
) -> None:
    path = tmp_path / "run.pt"
    path.write_bytes(checkpoint)
    whole, resumed = fit(panel, QUICK), fit(panel, QUICK, checkpoint=path, resume=True)
    pd.testing.assert_frame_equal(whole.graphs(), resumed.graphs(), check_exact=True)
    assert list(resumed.history_.epoch) == [1, 2, 3, 4]
    assert [p.name for p in tmp_path.iterdir()] == ["run.pt"]


def test_what_differs_from_the_run_of_the_checkpoint_is_named(
    panel: Panel, checkpoint: bytes, tmp_path: Path
) -> None:
    path = tmp_path / "run.pt"
    path.write_bytes(checkpoint)
    for name, value in {
        "seed": 5, "prior": 0.9, "learning_rate": 1e-3, "batch_stores": 3, "epochs": 5,
        "forbidden": [("x0", "gmv")],
    }.items():  # fmt: skip
        said = refused(panel, {**QUICK, name: value}, path)
        assert f"parameters.{name} " in said
        assert "1 error" in said
    turned = dict(reversed(panel.schema.channels.items()))
    columns = panel.schema.model_copy(update={"channels": turned})
    others = {
        "data.fingerprint": replace(panel, data=replace(panel.data, values=panel.data.values * 2)),
        "data.stores 8 there, 7 here": panel.select(panel.stores[:7].tolist()),
        "data.last": panel.head(30),
        "data.series": replace(panel, schema=columns),
    }
    for says, other in others.items():
        assert says in refused(other, QUICK, path)
    assert path.read_bytes() == checkpoint


def test_a_damaged_checkpoint_is_refused(panel: Panel, checkpoint: bytes, tmp_path: Path) -> None:
    path = tmp_path / "run.pt"
    bits = np.random.default_rng(0).choice(8 * len(checkpoint), 30, replace=False)
    for position in [3, 8 * 30, 8 * 80, *bits.tolist()]:  # in head, digest and line too
        damaged = bytearray(checkpoint)
        damaged[position // 8] ^= 1 << position % 8
        path.write_bytes(damaged)
        assert "wrong-checkpoint" in refused(panel, QUICK, path)
    for damaged in (b"", checkpoint[:-1], checkpoint + b"x", checkpoint[:40], b"PK\3\4 torch"):
        path.write_bytes(damaged)
        assert "wrong-checkpoint" in refused(panel, QUICK, path)
    path.write_bytes(checkpoint)
    with path.open("r+b") as file:
        file.truncate(1 << 40)  # sparse: refused before so much is read
    assert "wrong-checkpoint" in refused(panel, QUICK, path)


def test_only_checkpoints_are_overwritten(panel: Panel, checkpoint: bytes, tmp_path: Path) -> None:
    mine = tmp_path / "notes.txt"
    mine.write_text("mine")
    assert "not touched" in refused(panel, QUICK, mine, resume=False)
    assert mine.read_text() == "mine"
    assert "no folder" in refused(panel, QUICK, mine / "run.pt", resume=False)
    assert "no checkpoint" in refused(panel, QUICK, tmp_path / "nothing.pt")
    path = tmp_path / "run.pt"
    path.write_bytes(checkpoint)
    with pytest.raises(Interrupted):
        fit(panel, QUICK, checkpoint=path, stop=1)
    assert path.read_bytes() != checkpoint


def test_a_fit_that_needs_more_memory_than_there_is_is_refused_before_it_begins(
    panel: Panel, monkeypatch: pytest.MonkeyPatch
) -> None:
    needed = memory_needed(
        panel, "amortised", CausalMMM(**QUICK).model_config(8), CausalMMM(**QUICK).train_config()
    )
    # 8 prototypes of 4 receivers and 8 stores, each with (4 series x 6 responses)^2; lags
    assert needed == 4 * (8 * 4 * 24**2 + 8 * (24**2 + 8**2))
    monkeypatch.setattr("causalmmm.model.demand.memory_available", lambda device: needed)
    fit(panel, QUICK)
    monkeypatch.setattr("causalmmm.model.demand.memory_available", lambda device: needed - 1)
    with pytest.raises(PanelError, match=r"4 series needs at least 94.2 kB"):
        fit(panel, QUICK)


def test_the_second_fit_of_stores_that_share_nothing_resumes_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("causalmmm.model.fitting.gain_of_sharing", lambda *a, **k: -1.0)
    panel = simulate("paper-small", seed=3, stores=40, steps=40, channels=2)[0]
    settings = {**QUICK, "structure": "auto", "epochs": 2}
    path = tmp_path / "run.pt"
    with pytest.raises(Interrupted):
        fit(panel, settings, checkpoint=path, stop=3)
    epochs = []
    with pytest.warns(UserWarning, match="do not share effects"):
        resumed = CausalMMM(**settings).fit(
            panel, progress=False, checkpoint=path, resume=True, on_epoch=epochs.append
        )
    assert [report.epoch for report in epochs] == [2]
    with pytest.warns(UserWarning, match="do not share effects"):
        whole = fit(panel, settings)
    assert resumed.config_.structure == "evidence"
    pd.testing.assert_frame_equal(whole.graphs(), resumed.graphs(), check_exact=True)


@pytest.mark.parametrize(
    ("folder", "limit", "used", "cache"),
    [
        (".", "memory.max", "memory.current", "inactive_file"),
        ("memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
    ],
)
def test_memory_is_what_the_limit_of_a_container_leaves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: str, limit: str, used: str, cache: str
) -> None:
    monkeypatch.setattr(demand, "_CGROUP", tmp_path)
    machine = memory_available(torch.device("cpu"))
    root = tmp_path / folder
    root.mkdir(exist_ok=True)
    (root / limit).write_text("5000000\n")
    assert memory_available(torch.device("cpu")) == 5_000_000
    (root / used).write_text("3000000\n")
    (root / "memory.stat").write_text(f"anon 2\n{cache} 1000000\n")
    assert memory_available(torch.device("cpu")) == 3_000_000
    (root / used).write_text("9000000\n")
    assert memory_available(torch.device("cpu")) == 0
    for unlimited in ("max", "9223372036854771712"):
        (root / limit).write_text(unlimited)
        assert memory_available(torch.device("cpu")) > 0.5 * machine
