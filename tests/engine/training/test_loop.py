"""The training loop: what it reports, how it fails, and what an update costs."""

from __future__ import annotations

import copy
import math
import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from bench.system.training import Launches
from small import build
from torch.utils._python_dispatch import TorchDispatchMode

from causalmmm.engine.batches.windows import Windows
from causalmmm.engine.nn.posterior import effect_noise
from causalmmm.engine.spec.config import TrainConfig
from causalmmm.engine.training.cuda_graphs import Updates
from causalmmm.engine.training.divergence import DivergenceError
from causalmmm.engine.training.loop import train
from causalmmm.engine.training.schedule import parameter_groups
from causalmmm.engine.training.threads import threads_for
from causalmmm.engine.training.validation import Validation, sampling_seed

CPU = torch.device("cpu")


def test_an_update_is_few_operators(windows: Windows) -> None:
    """Small batches are bound by the number of operators; plain PyTorch takes 1,700."""
    config, model = TrainConfig(), build(hidden=32).train()
    update = Updates(model, parameter_groups(model, config), config, stores=3, device=CPU)
    batch = windows.cross(np.arange(3), 0.4, np.random.default_rng(0))
    options = {"rate": 1e-3, "temperature": 1.0, "seed": 1, "kl_weight": 1.0}
    update(batch, **options, store_log_bf=None)  # the optimiser's state is there afterwards
    with Launches() as launches:
        update(batch, **options, store_log_bf=None)
    total = launches.counts.total()
    assert total <= 268, f"{total}: {launches.counts.most_common(12)}"


def test_an_update_on_a_gpu_is_few_kernels() -> None:
    """Counted without one: nodes of the graph that an update replays. Plain forms take 1,300."""
    command = [sys.executable, "-W", "ignore", "-m", "bench.system.gpu_launches"]
    command += ["--shapes", "4x40x32"]
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    counts = [int(line.split()[-1]) for line in done.stdout.splitlines() if line.startswith("4x40")]
    assert len(counts) == 2
    assert max(counts) <= 285


READING = ("_local_scalar_dense", "nonzero", "masked_select", "equal", "unique", "_unique2")


class Waits(TorchDispatchMode):
    """Counts what makes the host wait for a GPU: numbers that are read from tensors, and results
    whose size depends on them, as of a mask that selects rows."""

    count = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None):
        name = function._schema.name.removeprefix("aten::")
        masks = name in ("index", "index_put", "index_put_") and any(
            index is not None and index.dtype is torch.bool for index in args[1]
        )
        self.count += masks or name in READING
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize(
    "read",
    [
        lambda x: x.sum().item(),
        lambda x: float(x[0]),
        lambda x: x[x > 0],
        lambda x: x.masked_select(x > 0),
        lambda x: x.nonzero(),
        lambda x: bool((x > 0).any()),
    ],
)
def test_what_makes_the_host_wait_is_counted(read: Callable[[torch.Tensor], Any]) -> None:
    with Waits() as waits:
        read(torch.arange(3.0))
    assert waits.count == 1


def test_the_host_waits_once_an_epoch_however_many_updates_it_has(windows: Windows) -> None:
    """And once a validation, however many batches that has."""
    counts = []
    for batch_stores in (3, 1):
        config = TrainConfig(epochs=2, batch_stores=batch_stores)
        with Waits() as waits:
            train(build(hidden=16), windows, config, seed=0, device=CPU)
        counts.append(waits.count)
    assert counts[0] == counts[1]


@pytest.mark.parametrize("structure", ["learned", "evidence"])
def test_validation_is_the_mean_loss_of_the_stores_and_waits_once(
    windows: Windows, structure: str
) -> None:
    config, model, stores = TrainConfig(), build(hidden=16, structure=structure), np.arange(3)
    log_bf = torch.linspace(-3, 3, 48).view(3, 4, 4) if structure == "evidence" else None
    options = {"seed": 5, "device": CPU, "stores_per_batch": 2, "training_stores": 7}
    validation = Validation(model, windows, stores, config, **options)
    with Waits() as waits:
        loss = validation(log_bf)
    assert waits.count == 1
    rng, expected = np.random.default_rng((5, 3)), 0.0
    for index, chunk in enumerate((stores[:2], stores[2:])):
        batch, seed = windows.cross(chunk, config.target_share, rng), sampling_seed(5, 1, index)
        losses = model.eval()(
            batch,
            temperature=config.temperature[1],
            seed=seed,
            noise=effect_noise(batch, seed),
            stores=7,
            store_log_bf=None if log_bf is None else log_bf[chunk],
        )
        expected += losses.total.item() * len(chunk) / 3
    assert loss == pytest.approx(expected, rel=1e-6)


def test_the_history_holds_the_norm_of_the_gradient(windows: Windows) -> None:
    history = train(build(hidden=16), windows, TrainConfig(epochs=2), seed=0, device=CPU)
    assert all(0 < report.gradient_norm < math.inf for report in history)


def test_a_store_whose_loss_is_not_finite_is_named_with_its_window(windows: Windows) -> None:
    """Store 1 overflows in the middle of its 90 rows; the others are in order."""
    extreme = copy.deepcopy(windows)
    extreme.scale[1] = 1e-38
    extreme.window = 40
    with pytest.raises(DivergenceError, match=r"position 1, rows \d+ to \d+\); lower") as caught:
        train(build(hidden=16), extreme, TrainConfig(epochs=2), seed=0, device=CPU)
    assert (caught.value.epoch, caught.value.store) == (1, 1)
    assert 0 <= caught.value.begin <= 50
    assert caught.value.end == caught.value.begin + 40


@pytest.mark.parametrize(("given", "expected"), [(None, "PASSIVE"), ("ACTIVE", "ACTIVE")])
def test_waiting_threads_sleep_unless_the_user_wants_otherwise(
    given: str | None, expected: str
) -> None:
    others = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    environment = others | ({} if given is None else {"OMP_WAIT_POLICY": given})
    program = "import causalmmm, os; print(os.environ['OMP_WAIT_POLICY'])"
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == expected


def test_threads_follow_the_size_of_an_update() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    try:
        for values, expected in ((0, 1), (59_000, 1), (60_000, 2), (10**9, 4)):
            with threads_for(values) as threads:
                assert threads == torch.get_num_threads() == expected
        assert torch.get_num_threads() == 4
    finally:
        torch.set_num_threads(before)
