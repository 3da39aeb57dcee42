"""The Triton kernels in Triton's interpreter, through the public functions, against float64.

Not collected by itself: `test_edge_triton.py` runs it with TRITON_INTERPRET=1 in a process of its
own, because Triton decides at import whether it interprets.
"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from causalmmm.kernels import edge_mean, edge_sample
from causalmmm.kernels.edge import chunked, configs, ops, reference

FIRST = ("sender1", "receiver1", "w2", "b2")
SECOND = ("sender2", "receiver2", "w3", "w4", "b4", "wo", "bo")
PAIR = ("features", "wf")
TOLERANCE = {torch.float32: 1e-6, torch.float16: 2e-3, torch.bfloat16: 2e-2}


def problem(stores, nodes, width, types, features, dtype, prior_per_store=False):
    random = torch.Generator().manual_seed(stores + 10 * nodes + width + types)

    def draw(*shape: int) -> Tensor:
        return torch.randn(shape, generator=random, dtype=torch.float64)

    values = {
        "sender1": draw(stores, nodes, width),
        "receiver1": draw(stores, nodes, width),
        "w2": draw(width, width) / width**0.5,
        "b2": draw(width),
        "sender2": draw(stores, nodes, width),
        "receiver2": draw(stores, nodes, width),
        "w3": draw(width, width) / width**0.5,
        "w4": draw(width, width) / width**0.5,
        "b4": draw(width),
        "wo": draw(types, width) / width**0.5,
        "bo": draw(types),
        "features": draw(stores, nodes, nodes, features) if features else None,
        "wf": draw(width, features) if features else None,
    }
    values = {k: None if v is None else v.to(dtype) for k, v in values.items()}
    shape = (stores,) * prior_per_store + (nodes, nodes, types)
    prior = draw(*shape).log_softmax(-1)
    prior[..., 0, 1, 1:] = -torch.inf
    prior[..., 1, 0, :-1] = -torch.inf
    return {**values, "log_prior": prior.float()}


def run(values, plain, hard=False, seed=3):
    """Outputs and gradients by name; `plain` asks for the reference in float64."""
    wide = torch.float64 if plain else None
    held = {
        k: None if v is None else v.to(wide or v.dtype).requires_grad_() for k, v in values.items()
    }
    store = torch.arange(len(values["sender1"])) * 3 + 2**33
    first, second = [held[n] for n in FIRST], [held[n] for n in SECOND]
    pair = {n: held[n] for n in PAIR}
    if plain:
        noise = None if seed is None else torch.tensor(seed)
        tau = torch.tensor(0.7, dtype=torch.float64)
        z, logits, kl = reference.edge_sample(
            *first, *second, held["log_prior"], *pair.values(), tau, noise, store, hard
        )
        mean = reference.edge_mean(*first, *pair.values())
    else:
        mean = edge_mean(*first, **pair)
        options = {"temperature": 0.7, "seed": seed, "store": store, "hard": hard}
        z, logits, kl = edge_sample(*first, *second, held["log_prior"], **pair, **options)
    outputs = {"mean": mean, "z": z, "logits": logits.nan_to_num(neginf=0.0), "kl": kl}
    random = torch.Generator().manual_seed(1)
    loss = sum(
        (x * torch.randn(x.shape, generator=random, dtype=torch.float64).to(x.dtype)).sum()
        for x in outputs.values()
    )
    loss.backward()
    gradients = {f"d {k}": v.grad for k, v in held.items() if v is not None}
    return {**outputs, **gradients}


def path_of(values):
    path = ops.path_for(values["sender1"], len(values["wo"]), values["features"])
    return path.__name__.rpartition(".")[2]


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
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_outputs_and_gradients_agree_with_float64(case, monkeypatch):
    nodes, width = case[1], case[2]
    tile_bytes = 4 * nodes**2 * width * 4
    monkeypatch.setattr(configs, "WORKSPACE_BYTES", 2 * tile_bytes)  # several chunks of stores
    poison_fresh_memory(monkeypatch)
    values = problem(*case)
    assert path_of(values) == "fused"
    exact, found = run(values, plain=True), run(values, plain=False)
    for name, true in exact.items():
        error = (found[name].double() - true).norm() / true.norm()
        assert error < TOLERANCE[case[5]] * (1 if name in ("mean", "z", "logits", "kl") else 2), (
            name
        )


def test_hard_samples_and_a_prior_for_each_store():
    values = problem(3, 4, 32, 3, 2, torch.float32, prior_per_store=True)
    exact, found = run(values, plain=True, hard=True), run(values, plain=False, hard=True)
    assert torch.equal(found["z"].double(), exact["z"])
    assert found["z"].detach().unique().tolist() == [0.0, 1.0]
    for name, true in exact.items():
        torch.testing.assert_close(found[name].double(), true, rtol=1e-4, atol=1e-5)


def test_without_a_seed_the_sample_is_the_posterior_mean():
    values = problem(2, 3, 32, 2, 0, torch.float32)
    exact, found = run(values, plain=True, seed=None), run(values, plain=False, seed=None)
    for name, true in exact.items():
        torch.testing.assert_close(found[name].double(), true, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("types", [2, 4])
def test_noise_is_that_of_the_reference(types):
    """With scores and prior at zero the sample shows the noise alone, whatever the tiling."""
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
    once, again = run(values, plain=False), run(values, plain=False)
    assert all(torch.equal(once[name], again[name]) for name in once)


def test_forbidden_and_required_edges_are_exact():
    found = run(problem(2, 3, 32, 3, 0, torch.bfloat16), plain=False)
    assert found["z"][:, 0, 1].tolist() == [[1.0, 0.0, 0.0]] * 2
    assert found["z"][:, 1, 0].tolist() == [[0.0, 0.0, 1.0]] * 2
    assert found["z"][:, 2, 2].tolist() == [[1.0, 0.0, 0.0]] * 2
    assert all(x.isfinite().all() for x in found.values())


def test_sizes_the_kernels_do_not_cover_take_the_other_path():
    values = problem(2, 3, 48, 2, 0, torch.float32)
    assert path_of(values) != "fused"
    exact, found = run(values, plain=True), run(values, plain=False)
    torch.testing.assert_close(found["mean"].double(), exact["mean"], rtol=1e-4, atol=1e-5)


def test_registered_operators_pass_torchs_own_checks():
    values = problem(2, 3, 32, 2, 2, torch.float32)
    tensors = [values[n].requires_grad_() for n in FIRST]
    pair = [values[n].requires_grad_() for n in PAIR]
    torch.library.opcheck(ops.edge_mean, (*tensors, *pair))
    second = [values[n].requires_grad_() for n in SECOND]
    prior = torch.zeros(3, 3, 2, requires_grad=True)
    rest = torch.tensor(0.5), torch.tensor(3), torch.arange(2), False
    torch.library.opcheck(ops.edge_sample, (*tensors, *second, prior, *pair, *rest))


def poison_fresh_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fresh tensors hold NaN, so that a row the kernels forget to write shows."""
    empty, empty_like = Tensor.new_empty, torch.empty_like

    def poisoned(x: Tensor) -> Tensor:
        return x.fill_(torch.nan) if x.is_floating_point() else x

    monkeypatch.setattr(Tensor, "new_empty", lambda *a, **k: poisoned(empty(*a, **k)))
    monkeypatch.setattr(torch, "empty_like", lambda *a, **k: poisoned(empty_like(*a, **k)))


def test_the_two_paths_agree_on_the_same_problem():
    values = problem(3, 4, 64, 2, 3, torch.float32)
    first = [values[n] for n in (*FIRST, *PAIR)]
    expected = chunked.edge_mean(*first)
    torch.testing.assert_close(edge_mean(*first[:4], features=first[4], wf=first[5]), expected)
