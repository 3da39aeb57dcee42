"""Fits that go on from an earlier one: on grown panels, to the same bits, from no other model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from causalmmm import CausalMMM, ModelError, Panel
from causalmmm.engine.spec.config import TrainConfig
from causalmmm.engine.training.schedule import Schedule, epoch_count
from causalmmm.simulation import simulate

QUICK: dict[str, Any] = {
    "structure": "learned",
    "epochs": 2,
    "hidden": 8,
    "lags": 2,
    "ar_lags": 2,
    "draws": 20,
    "device": "cpu",
}


@pytest.fixture(scope="module")
def grown() -> Panel:
    """Eight stores of 50 days."""
    return simulate("paper-small", seed=3, stores=8, steps=50, channels=2)[0]


@pytest.fixture(scope="module")
def earlier(grown: Panel) -> CausalMMM:
    """Fitted on six of the stores, ten days before."""
    return CausalMMM(**QUICK).fit(grown.select(grown.stores[:6]).split(10)[0], progress=False)


def refreshed(earlier: Any, panel: Panel, **settings: Any) -> CausalMMM:
    model = CausalMMM(**QUICK | settings)
    return model.fit(panel, progress=False, init_model=earlier)


def test_the_same_seed_goes_on_to_the_same_bits(
    earlier: CausalMMM, grown: Panel, tmp_path: Path
) -> None:
    """From the model in memory and from its directory; the earlier model stays as it was."""
    before = {name: value.clone() for name, value in earlier.model_.state_dict().items()}
    one, other = refreshed(earlier, grown), refreshed(earlier.save(tmp_path / "run"), grown)
    for name, value in one.model_.state_dict().items():
        assert torch.equal(value, other.model_.state_dict()[name])
        assert torch.equal(before[name], earlier.model_.state_dict()[name])
    assert one.calendar_ == earlier.calendar_
    pd.testing.assert_frame_equal(one.graphs(), other.graphs())


def test_the_weights_it_began_with_stay_where_training_improves_nothing(
    earlier: CausalMMM, grown: Panel
) -> None:
    same = refreshed(earlier, grown, learning_rate=1e-30)
    for name, value in earlier.model_.named_parameters():
        torch.testing.assert_close(value, dict(same.model_.named_parameters())[name])


def test_what_the_user_knows_is_told_anew(earlier: CausalMMM, grown: Panel) -> None:
    channel, target = grown.nodes[0], grown.nodes[-1]
    graphs = refreshed(earlier, grown, forbidden=[(channel, target)]).graphs(threshold=0.0)
    pair = graphs[(graphs["source"] == channel) & (graphs["target"] == target)]
    assert (pair["probability"] == 0).all()


def test_it_takes_a_fifth_of_the_updates_where_the_earlier_fit_ended() -> None:
    config = TrainConfig()
    assert epoch_count(1200, 8, 10, continued=True) == round(0.2 * epoch_count(1200, 8, 10))
    schedule, first = Schedule(config, 240, continued=True), Schedule(config, 1200)
    assert schedule.kl(0) == 1.0
    assert schedule.temperature(0) == config.temperature[1]
    fastest = max(map(schedule.rate, range(240)))
    assert fastest == pytest.approx(0.05 * max(map(first.rate, range(1200))))


def test_an_interrupted_fit_resumes_from_the_same_start_alone(
    earlier: CausalMMM, grown: Panel, tmp_path: Path
) -> None:
    def stop(report: object) -> None:
        raise KeyboardInterrupt

    whole, file = refreshed(earlier, grown), tmp_path / "run.checkpoint"
    options = {"progress": False, "checkpoint": file, "init_model": earlier}
    with pytest.raises(KeyboardInterrupt):
        CausalMMM(**QUICK).fit(grown, on_epoch=stop, **options)
    with pytest.raises(ModelError, match=r"start '[0-9a-f]{32}' there, 'nothing' here"):
        CausalMMM(**QUICK).fit(grown, progress=False, checkpoint=file, resume=True)
    resumed = CausalMMM(**QUICK).fit(grown, resume=True, **options)
    for name, value in whole.model_.state_dict().items():
        assert torch.equal(value, resumed.model_.state_dict()[name])


def test_a_model_of_other_series_or_shape_is_refused_with_every_difference(
    earlier: CausalMMM, grown: Panel
) -> None:
    other = grown.schema.model_copy(update={"target": "revenue"})
    frame = grown.to_frame().rename(columns={grown.nodes[-1]: "revenue"})
    with pytest.raises(ModelError) as error:
        refreshed(earlier, Panel.from_frame(frame, other), hidden=12)
    found = {finding.column for finding in error.value.report.findings}
    assert found == {"series", "hidden"}
    assert "revenue" in str(error.value)


def test_the_closed_form_regression_needs_no_start(grown: Panel) -> None:
    weekly, _ = simulate("weekly-mmm", stores=2, steps=60, seed=0)
    model = CausalMMM(draws=10, device="cpu").fit(weekly, progress=False)
    with pytest.raises(ModelError, match="regime 'regression' there"):
        CausalMMM(device="cpu").fit(weekly, progress=False, init_model=model)


def test_stores_that_were_not_trained_on_are_answered_for(earlier: CausalMMM, grown: Panel) -> None:
    """A store's answers depend on its own history alone: passing it refreshes it."""
    new = grown.stores[7]
    alone = earlier.graphs(grown.select([new]), threshold=0.0)
    together = earlier.graphs(grown, threshold=0.0)
    of_new = together[together["store"] == new].reset_index(drop=True)
    pd.testing.assert_frame_equal(alone, of_new, rtol=1e-4, atol=1e-5)
    assert np.isfinite(earlier.predict(grown.select([new]), 5)["mean"]).all()
