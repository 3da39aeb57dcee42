"""``deterministic=True``: what a fit comes to does not depend on the number of threads."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch

from causalmmm import CausalMMM, ModelError, simulate
from causalmmm.engine.training import threads

SMALL = {"structure": "learned", "epochs": 1, "hidden": 8, "draws": 4, "device": "cpu"}


@pytest.fixture
def two_threads(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Two threads, and updates so large that both are used."""
    monkeypatch.setattr(threads, "_VALUES_PER_THREAD", 1)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def test_a_deterministic_fit_has_one_thread_and_its_bits(two_threads: None) -> None:
    panel = simulate("paper-small", seed=1, stores=8, steps=40, channels=2)[0]
    seen: dict[bool, int] = {}
    for deterministic in (False, True):
        model = CausalMMM(**SMALL, deterministic=deterministic)
        during: list[int] = []
        model.fit(
            panel,
            progress=False,
            on_epoch=lambda _, now=during: now.append(torch.get_num_threads()),
        )
        seen[deterministic] = during[0]
    assert seen == {False: 2, True: 1}
    assert torch.get_num_threads() == 2
    torch.set_num_threads(1)
    alone = CausalMMM(**SMALL).fit(panel, progress=False)
    for name, tensor in alone.model_.state_dict().items():
        assert np.array_equal(model.model_.state_dict()[name], tensor), name


def test_a_deterministic_fit_is_refused_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = torch.device("cuda")
    monkeypatch.setattr("causalmmm.model.estimator.device_named", lambda _: gpu)
    monkeypatch.setattr("causalmmm.model.estimator.check_memory", lambda *_: None)
    panel = simulate("paper-small", seed=1, stores=8, steps=40, channels=2)[0]
    with pytest.raises(ModelError, match="not-deterministic"):
        CausalMMM(**SMALL, deterministic=True).fit(panel, progress=False)
