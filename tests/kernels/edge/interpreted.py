"""The Triton kernels in Triton's interpreter, through the public functions, against float64.

Not collected by itself: `test_triton.py` runs it with TRITON_INTERPRET=1 in a new process, because
Triton decides at import whether it interprets.
"""

from __future__ import annotations

import pytest
import torch
from edge_problems import FIRST, SECOND, check_registration, distance, path_of, problem, run
from torch import Tensor

from causalmmm.kernels import edge_sample
from causalmmm.kernels.edge import reference
from causalmmm.kernels.edge.triton import tables

TOLERANCE = {torch.float32: 1e-6, torch.float16: 2e-3, torch.bfloat16: 2e-2}
CASES = [
    # stores, nodes, width, types, features, dtype
    (3, 2, 32, 2, 3, torch.float32),
    (2, 3, 64, 3, 0, torch.float32),
    (1, 5, 32, 4, 32, torch.bfloat16),
    (9, 8, 32, 2, 5, torch.float16),
    (2, 10, 64, 2, 17, torch.bfloat16),
    (1, 33, 32, 2, 1, torch.float32),
    (2, 3, 128, 2, 2, torch.bfloat16),
    (1, 3, 128, 3, 2, torch.float32),
    (1, 2, 256, 4, 2, torch.float16),
    (1, 3, 256, 2, 0, torch.bfloat16),
    (3, 2, 256, 2, 3, torch.float32),
    (7, 5, 32, 2, 0, torch.float32),  # a group holds several stores, the last one fewer
    (1, 66, 32, 2, 0, torch.float16),  # a store is larger than a group: layer by layer
]


@pytest.mark.parametrize("keep", [True, False])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_outputs_and_gradients_agree_with_float64(case, keep, monkeypatch):
    nodes, width = case[1], case[2]
    store_bytes = nodes**2 * width * 4
    monkeypatch.setattr(tables, "WORKSPACE_BYTES", 8 * store_bytes)  # several chunks of stores
    monkeypatch.setattr(tables, "PARTS", 2)  # of several groups each
    poison_fresh_memory(monkeypatch)
    values = problem(*case)
    assert path_of(values) == "launch"
    exact, results = run(values, exact=True), run(values, keep=keep)
    for name, true in exact.items():
        allowed = TOLERANCE[case[5]] * (2 if name.startswith("d ") else 1)
        assert distance(results[name], true) < allowed, name


def test_hard_samples_and_a_prior_for_each_store():
    values = problem(3, 4, 32, 3, 2, torch.float32, prior_per_store=True)
    exact, results = run(values, exact=True, hard=True), run(values, hard=True)
    assert torch.equal(results["z"].double(), exact["z"])
    assert results["z"].detach().unique().tolist() == [0.0, 1.0]
    for name, true in exact.items():
        torch.testing.assert_close(results[name].double(), true, rtol=1e-4, atol=1e-5)


def test_without_a_seed_the_sample_is_the_posterior_mean():
    values = problem(2, 3, 32, 2, 0, torch.float32)
    exact, results = run(values, exact=True, seed=None), run(values, seed=None)
    for name, true in exact.items():
        torch.testing.assert_close(results[name].double(), true, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("types", [2, 4])
def test_noise_is_that_of_the_reference(types):
    """With logits and prior at zero the sample shows the noise alone, whatever the tiling."""
    values = problem(3, 7, 32, types, 0, torch.float32)
    for name in ("wo", "bo", "log_prior"):
        values[name] = torch.zeros_like(values[name])
    names = (*FIRST, *SECOND, "log_prior")
    store = torch.tensor([0, 2**31 + 7, 2**40 + 1])
    seed = -(2**62) + 12345
    z = edge_sample(*(values[n] for n in names), seed=seed, store=store).z
    noise = reference.edge_noise(seed, store, 7, types)
    pairs = ~torch.eye(7, dtype=torch.bool)
    torch.testing.assert_close(z[:, pairs], noise.softmax(-1)[:, pairs], rtol=1e-5, atol=1e-6)


def test_equal_inputs_give_equal_bits():
    values = problem(4, 5, 32, 2, 3, torch.float32)
    once, again = run(values), run(values)
    assert all(torch.equal(once[name], again[name]) for name in once)


def test_forbidden_and_required_edges_are_exact():
    results = run(problem(2, 3, 32, 3, 0, torch.bfloat16))
    assert results["z"][:, 0, 1].tolist() == [[1.0, 0.0, 0.0]] * 2
    assert results["z"][:, 1, 0].tolist() == [[0.0, 0.0, 1.0]] * 2
    assert results["z"][:, 2, 2].tolist() == [[1.0, 0.0, 0.0]] * 2
    assert all(x.isfinite().all() for x in results.values())


def test_sizes_the_kernels_do_not_cover_take_the_other_path():
    values = problem(2, 3, 48, 2, 0, torch.float32)
    assert path_of(values) != "launch"
    exact, results = run(values, exact=True), run(values)
    torch.testing.assert_close(results["mean"].double(), exact["mean"], rtol=1e-4, atol=1e-5)


def test_registered_operators_pass_torchs_own_checks():
    check_registration(problem(2, 3, 32, 2, 2, torch.float32))


def poison_fresh_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fresh tensors hold NaN, so that a row the kernels forget to write shows."""
    empty, empty_like = Tensor.new_empty, torch.empty_like

    def poisoned(x: Tensor) -> Tensor:
        return x.fill_(torch.nan) if x.is_floating_point() else x

    monkeypatch.setattr(Tensor, "new_empty", lambda *a, **k: poisoned(empty(*a, **k)))
    monkeypatch.setattr(torch, "empty_like", lambda *a, **k: poisoned(empty_like(*a, **k)))
