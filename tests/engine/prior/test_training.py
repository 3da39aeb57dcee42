"""A tiny prior learns a planted rule, resumes to the bit, and is kept with its digest."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from causalmmm.engine.prior import (
    Example,
    Familiarity,
    PretrainConfig,
    PriorNetwork,
    read_prior,
    shipped_prior,
    train_prior,
    write_prior,
)
from causalmmm.engine.prior.shipped import RECORD, SHIPPED, WEIGHTS
from causalmmm.engine.prior.training import held_out_loss

CONFIG = PretrainConfig(laws=60, epochs=4, width=8, learning_rate=1e-2)
KINDS = torch.tensor([0, 0, 0, 2])


def planted(count: int) -> list[Example]:
    """Edges where the first statistic is positive, most often into the target."""
    generator = torch.Generator().manual_seed(1)
    found = []
    for _ in range(count):
        features = torch.randn(3, 4, 4, 5, generator=generator)
        features[:, :, 3, 0] += 1.0
        edges = (features[..., 0] > 0) & ~torch.eye(4, dtype=torch.bool)
        found.append(Example(features, edges, KINDS))
    return found


def train(**kwargs: object) -> tuple[PriorNetwork, Familiarity, list[object]]:
    return train_prior(planted(CONFIG.laws), CONFIG, lambda report: None, **kwargs)  # type: ignore


def test_a_planted_rule_is_learned_and_usual_frequencies_are_kept() -> None:
    network, familiarity, history = train()
    assert [report.epoch for report in history] == [0, 1, 2, 3]  # type: ignore[attr-defined]
    others = planted(80)[60:]
    assert held_out_loss(network, others) < 0.3  # log 2 = .69 for a coin
    share = network.base.sigmoid()
    assert abs(share[0, 0] - 0.5) < 0.1
    assert share[0, 2] > 0.75
    near = familiarity(others[0].features)
    far = familiarity(others[0].features * 30)
    assert (near < 1.3).all()
    assert (far > 3).all()


def test_a_run_that_was_stopped_ends_with_the_same_bits(tmp_path: Path) -> None:
    whole = train()[0].state_dict()
    path = tmp_path / "training.pt"

    class Stop(Exception):
        pass

    def stop(report: object) -> None:
        if report.epoch == 2:  # type: ignore[attr-defined]
            raise Stop

    with pytest.raises(Stop):
        train_prior(planted(CONFIG.laws), CONFIG, stop, path)
    resumed, _, history = train(checkpoint=path)
    assert len(history) == CONFIG.epochs
    for name, tensor in resumed.state_dict().items():
        assert torch.equal(tensor, whole[name]), name


def test_a_prior_is_kept_with_its_record_and_a_changed_file_is_refused(tmp_path: Path) -> None:
    network, familiarity, _ = train()
    write_prior(tmp_path, network, familiarity, {"settings": {"laws": 60}})
    again = read_prior(tmp_path)
    features = planted(1)[0].features
    torch.testing.assert_close(again.network(features), network(features).detach())
    torch.testing.assert_close(again.familiarity(features), familiarity(features))
    record = json.loads((tmp_path / RECORD).read_text())
    (tmp_path / RECORD).write_text(json.dumps(record | {"sha256": "0" * 64}))
    with pytest.raises(ValueError, match=r"is not the file that record\.json describes"):
        read_prior(tmp_path)
    (tmp_path / WEIGHTS).unlink()
    with pytest.raises(ValueError, match=r"holds no trained prior.*causalmmm pretrain"):
        read_prior(tmp_path)


@pytest.mark.parametrize(
    ("name", "value"), [("laws", 0), ("epochs", 0), ("learning_rate", 0.0), ("width", -1)]
)
def test_settings_out_of_range_are_refused(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"{name} must be"):
        PretrainConfig(**{name: value})  # type: ignore[arg-type]


def test_the_package_ships_a_small_prior_whose_record_says_how_it_came_about() -> None:
    prior = shipped_prior()
    assert (SHIPPED / WEIGHTS).stat().st_size < 1_000_000
    assert prior.record["settings"]["laws"] >= 10_000
    assert len(prior.record["history"]) == prior.record["settings"]["epochs"]
    assert prior.network.center.shape == (prior.record["features"],)
