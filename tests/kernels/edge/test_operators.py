"""The edge operators against the equations, written naively pair by pair in NumPy."""

from __future__ import annotations

import edge_problems
import numpy as np
import pytest
import torch
from edge_problems import FIRST, PAIR, SECOND, check_registration, first_of, run, second_of
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from causalmmm.kernels import edge_mean, edge_noise, edge_sample
from causalmmm.kernels.edge import chunked, ops, reference, unsupported_reasons
from causalmmm.kernels.edge.records import Draw


def problem(**sizes):
    usual = {"stores": 2, "nodes": 3, "width": 4, "types": 2, "features": 2}
    return edge_problems.problem(**{**usual, "dtype": torch.float64, **sizes})


def mean_of(values):
    first = (values[name] for name in FIRST)
    return edge_mean(*first, features=values["features"], wf=values["wf"]).mean


def sample_of(values, **options):
    return edge_sample(
        *(values[name] for name in (*FIRST, *SECOND, "log_prior")),
        features=values["features"],
        wf=values["wf"],
        **options,
    )


def elu(x):
    return np.where(x > 0, x, np.expm1(np.minimum(x, 0)))


def layer_norm(x):
    return (x - x.mean()) / np.sqrt(x.var() + 1e-5)


def state_by_hand(v, b, i, j):
    inner = v["sender1"][b, i] + v["receiver1"][b, j]
    if v["features"] is not None:
        inner = inner + v["wf"] @ v["features"][b, i, j]
    return layer_norm(elu(v["w2"] @ elu(inner) + v["b2"]))


def logits_by_hand(v, b, i, j):
    inner = v["sender2"][b, i] + v["receiver2"][b, j] + v["w3"] @ state_by_hand(v, b, i, j)
    return v["wo"] @ layer_norm(elu(v["w4"] @ elu(inner) + v["b4"])) + v["bo"]


def in_numpy(values):
    return {k: None if v is None else v.double().numpy() for k, v in values.items()}


sizes = st.fixed_dictionaries(
    {
        "stores": st.integers(0, 3),
        "nodes": st.integers(2, 5),
        "width": st.integers(1, 6),
        "types": st.integers(2, 5),
        "features": st.integers(0, 3),
        "seed": st.integers(0, 100),
    }
)


@settings(max_examples=40, deadline=None)
@given(size=sizes)
def test_mean_is_over_the_other_nodes_edges(size):
    values = problem(**size)
    result, v = mean_of(values), in_numpy(values)
    assert result.shape == (size["stores"], size["nodes"], size["width"])
    for b in range(size["stores"]):
        for j in range(size["nodes"]):
            others = [state_by_hand(v, b, i, j) for i in range(size["nodes"]) if i != j]
            np.testing.assert_allclose(result[b, j], np.mean(others, 0), rtol=1e-9, atol=1e-10)


@settings(max_examples=40, deadline=None)
@given(size=sizes, temperature=st.floats(0.2, 3.0), noisy=st.booleans())
def test_sample_logits_and_divergence_follow_the_equations(size, temperature, noisy):
    values = problem(**size)
    stores, nodes = size["stores"], size["nodes"]
    ids = torch.arange(stores) * 7 + 2**33
    options = {"temperature": temperature, "seed": 5, "store": ids} if noisy else {}
    out, v = sample_of(values, **options), in_numpy(values)
    noise = edge_noise(5, ids, nodes, size["types"], dtype=torch.float64).numpy()
    for b in range(stores):
        total = 0.0
        for i in range(nodes):
            for j in range(nodes):
                if i == j:
                    assert out.z[b, i, i].tolist() == [1.0] + [0.0] * (size["types"] - 1)
                    assert not out.logits[b, i, i].any()
                    continue
                prior = v["log_prior"][i, j]
                logits = logits_by_hand(v, b, i, j) + prior
                np.testing.assert_allclose(out.logits[b, i, j], logits, rtol=1e-9, atol=1e-9)
                logits = logits.astype(np.longdouble)
                q = np.exp(logits) / np.exp(logits).sum()
                total += sum(
                    q[k] * (np.log(q[k]) - prior[k]) for k in range(len(q)) if np.isfinite(prior[k])
                )
                shown = (logits + noise[b, i, j]) / temperature if noisy else logits
                z = np.exp(shown - shown.max())
                expected = (z / z.sum()).astype(float)
                np.testing.assert_allclose(out.z[b, i, j], expected, rtol=1e-8, atol=1e-12)
        np.testing.assert_allclose(out.kl[b], float(total), rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("hard", [False, True])
@pytest.mark.parametrize("seed", [None, 9])
def test_forbidden_edges_are_exactly_absent_and_required_ones_exactly_present(hard, seed):
    out = sample_of(problem(types=3, dtype=torch.float32), seed=seed, hard=hard, temperature=0.3)
    assert out.z[:, 0, 1].tolist() == [[1.0, 0.0, 0.0]] * 2
    assert out.z[:, 1, 0].tolist() == [[0.0, 0.0, 1.0]] * 2
    assert out.logits[:, 0, 1, 1:].isneginf().all()
    assert out.kl.isfinite().all()


def test_divergence_agrees_with_torch_distributions():
    values = problem(stores=3, nodes=4, types=3)
    values["log_prior"] = torch.randn(3, 4, 4, 3, dtype=torch.float64).log_softmax(-1)
    out = sample_of(values)
    pairs = ~torch.eye(4, dtype=torch.bool)
    posterior = torch.distributions.Categorical(logits=out.logits[:, pairs])
    prior = torch.distributions.Categorical(logits=values["log_prior"][:, pairs])
    expected = torch.distributions.kl_divergence(posterior, prior).sum(-1)
    torch.testing.assert_close(out.kl, expected)


def test_hard_samples_are_one_hot_with_the_soft_samples_gradient():
    values = problem(nodes=4, types=3)
    weight = torch.randn(2, 4, 4, 3, dtype=torch.float64)
    samples, gradients = [], []
    for hard in (False, True):
        wo = values["wo"].clone().requires_grad_()
        z = sample_of({**values, "wo": wo}, seed=3, temperature=0.6, hard=hard).z
        (z * weight).sum().backward()
        samples.append(z.detach())
        gradients.append(wo.grad)
    soft, one_hot = samples
    assert set(one_hot.unique().tolist()) == {0.0, 1.0}
    assert torch.equal(one_hot.sum(-1), torch.ones(2, 4, 4, dtype=torch.float64))
    assert torch.equal(one_hot.argmax(-1), soft.argmax(-1))
    torch.testing.assert_close(gradients[1], gradients[0])


def test_values_on_the_diagonal_are_ignored_even_if_they_are_not_numbers():
    values = problem(nodes=3)
    spoilt = {**values, "features": values["features"].clone(), "log_prior": None}
    spoilt["log_prior"] = values["log_prior"].clone()
    for tensor in (spoilt["features"].permute(1, 2, 0, 3), spoilt["log_prior"]):
        tensor[range(3), range(3)] = torch.nan
    for name in (*FIRST, *SECOND, "wf", "features", "log_prior"):
        spoilt[name] = spoilt[name].clone().requires_grad_()
    torch.testing.assert_close(mean_of(spoilt), mean_of(values))
    out = sample_of(spoilt, seed=1)
    torch.testing.assert_close(out.z, sample_of(values, seed=1).z)
    (out.z.square().sum() + out.kl.sum() + mean_of(spoilt).sum()).backward()
    assert all(spoilt[name].grad.isfinite().all() for name in (*FIRST, *SECOND, "wf", "features"))


def test_a_store_is_computed_alike_alone_and_in_any_batch():
    values = problem(stores=5, nodes=4, width=8, dtype=torch.float32)
    ids = torch.tensor([4, 40, 400, 4000, 2**40])
    whole = sample_of(values, seed=2, store=ids)
    order = [3, 0, 4]
    part = {
        k: v[order] if k.startswith(("sender", "receiver", "feat")) else v
        for k, v in values.items()
    }
    some = sample_of(part, seed=torch.tensor(2), store=ids[order])
    for got, expected in zip(some, whole, strict=True):
        torch.testing.assert_close(got, expected[order])
    torch.testing.assert_close(mean_of(part), mean_of(values)[order])


@pytest.mark.parametrize("features", [0, 2])
def test_gradients_are_those_of_finite_differences(monkeypatch, features):
    monkeypatch.setitem(chunked.CHUNK_ROWS, "cpu", 1)
    values = problem(stores=3, nodes=3, width=3, features=features)
    names = [name for name in values if values[name] is not None]
    arguments = tuple(values[name].requires_grad_() for name in names)

    def both(*tensors: Tensor) -> tuple[Tensor, ...]:
        named = {"features": None, "wf": None, **dict(zip(names, tensors, strict=True))}
        out = sample_of(named, seed=8, temperature=0.7)
        return mean_of(named), out.z, out.logits.nan_to_num(neginf=0.0), out.kl

    assert torch.autograd.gradcheck(both, arguments, check_undefined_grad=False)


def test_a_prior_of_one_store_each_gets_its_own_gradient():
    values = problem(stores=3)
    shared = values["log_prior"].clone().requires_grad_()
    own = values["log_prior"].expand(3, 3, 3, 2).clone().requires_grad_()
    for prior in (shared, own):
        out = sample_of({**values, "log_prior": prior}, seed=4)
        (out.z.square().sum() + out.kl.sum()).backward()
    torch.testing.assert_close(own.grad.sum(0), shared.grad)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_narrow_dtypes_err_no_more_than_plain_pytorch_in_the_same_dtype(dtype):
    values = problem(stores=4, nodes=6, width=32, features=4, dtype=dtype)
    exact = {k: v.double() for k, v in values.items()}
    seed, store = torch.tensor(6), torch.arange(4)

    def plain(v: dict[str, Tensor]) -> tuple[Tensor, ...]:
        first, second, prior = first_of(v), second_of(v), v["log_prior"]
        draw = Draw(prior, torch.tensor(0.5, dtype=prior.dtype), seed, store, False)
        return reference.edge_mean(first), *reference.edge_sample(first, second, draw)

    ours = mean_of(values), *sample_of(values, seed=6, temperature=0.5)
    assert [x.dtype for x in ours] == [dtype] + [torch.float32] * 3
    for got, same, true in zip(ours, plain(values), plain(exact), strict=True):
        error, allowed = (
            (x.double() - true).nan_to_num().norm() / true.nan_to_num(neginf=0).norm()
            for x in (got, same)
        )
        assert error <= 2 * allowed + 1e-6


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_a_state_that_is_kept_changes_neither_results_nor_gradients(dtype):
    values = problem(stores=5, nodes=4, width=16, features=3, dtype=dtype)
    kept, computed = run(values), run(values, keep=False)
    for name, value in computed.items():
        torch.testing.assert_close(kept[name], value, rtol=1e-4, atol=1e-5)


def test_a_state_is_kept_within_its_bytes_alone(monkeypatch):
    values = problem()
    first = [values[name] for name in FIRST]
    pair = {name: values[name] for name in PAIR}
    mean, states = edge_mean(*first, **pair, keep_states=True)
    assert states.shape == (2, 3, 3, 4)
    assert edge_mean(*first, **pair).states is None
    monkeypatch.setitem(ops.STATES_BYTES, "cpu", states.nbytes - 1)
    again = edge_mean(*first, **pair, keep_states=True)
    assert again.states is None
    assert torch.equal(again.mean, mean)


def test_states_of_another_shape_are_refused():
    with pytest.raises(ValueError, match=r"states must have shape \[2, 3, 3, 4\]"):
        sample_of(problem(), states=torch.zeros(2, 3, 4))


def test_a_refused_path_says_why():
    x = torch.zeros(2, 3, 20)
    assert unsupported_reasons(x) == {
        "triton": ["tensors are on cpu, not on a GPU"],
        "cpp": ["width 20 is not a multiple of 16"],
    }
    assert "dtype torch.float64" in unsupported_reasons(x.double(), features=3)["cpp"][0]
    assert list(unsupported_reasons(torch.zeros(2, 3, 32), types=3)) == ["triton"]


def test_registered_operators_pass_torchs_own_checks():
    check_registration(problem(stores=3, types=3))


def test_operators_stay_whole_under_compilation():
    values = problem(dtype=torch.float32)
    values["w4"].requires_grad_()

    def step() -> Tensor:
        return sample_of(values, seed=1).z.square().sum() + mean_of(values).sum()

    compiled = torch.compile(step, fullgraph=True, backend="aot_eager")
    plain, whole = step(), compiled()
    torch.testing.assert_close(whole, plain)
    gradients = [torch.autograd.grad(x, values["w4"])[0] for x in (whole, plain)]
    torch.testing.assert_close(*gradients)


def test_no_stores_give_zero_gradients():
    results = run(problem(stores=0))
    assert not any(results[f"d {name}"].any() for name in (*FIRST, *SECOND, "wf", "log_prior"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"receiver1": (2, 4, 4)}, "receiver1 must have shape"),
        ({"sender1": (2, 1, 4)}, "at least 2 nodes"),
        ({"w2": (4, 3)}, "w2 must have shape"),
        ({"features": (2, 3, 3, 1)}, "features must have shape|wf must have shape"),
        ({"features": None}, "together"),
        ({"wo": (1, 4)}, "at least 2"),
        ({"log_prior": (3, 3)}, "log_prior must have shape"),
        ({"log_prior": (1, 3, 3, 2)}, "log_prior must have shape"),
    ],
)
def test_wrong_shapes_are_named(change, message):
    values = problem()
    for name, shape in change.items():
        values[name] = None if shape is None else torch.zeros(shape, dtype=torch.float64)
    with pytest.raises(ValueError, match=message):
        sample_of(values)
