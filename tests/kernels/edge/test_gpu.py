"""The edge operators on a GPU: float64's results, equal bits, captured graphs, bounded memory."""

from __future__ import annotations

import pytest
import torch
from edge_problems import FIRST, PAIR, SECOND, check_registration, distance, path_of, problem, run
from torch import Tensor

from causalmmm.kernels import edge_mean, edge_noise, edge_sample
from causalmmm.kernels.edge.philox import edge_words
from causalmmm.kernels.edge.triton import tables

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]
pytest.importorskip("triton", reason="needs the optional extra triton")

# float32 runs as three TF32 products; the others round operands and what stands in scratch.
TOLERANCE = {torch.float32: 3e-5, torch.float16: 2e-3, torch.bfloat16: 2e-2}
NARROW = [torch.float16, torch.bfloat16]
DTYPES = [torch.float32, *NARROW]
SIZES = [
    # stores, nodes, width, types, features
    (1, 2, 32, 2, 0),
    (37, 5, 32, 4, 32),
    (70, 8, 64, 2, 8),
    (9, 33, 64, 3, 5),
    (3, 100, 32, 2, 1),
    (50, 10, 128, 2, 8),
    (21, 7, 256, 2, 3),
]


@pytest.mark.parametrize("keep", [True, False])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_outputs_and_gradients_agree_with_float64(size, dtype, keep, monkeypatch):
    _, nodes, width, *_ = size
    chunk = 4 * nodes**2 * width * dtype.itemsize
    monkeypatch.setattr(tables, "WORKSPACE_BYTES", 8 * chunk)  # several chunks of stores
    values = problem(*size, dtype, device="cuda")
    if torch.cuda.get_device_capability() == (9, 0):
        assert path_of(values) == "launch"
    results, exact = run(values, keep=keep), run(values, exact=True)
    for name, true in exact.items():
        allowed = TOLERANCE[dtype] * (2 if name.startswith("d ") else 1)
        assert distance(results[name], true) < allowed, name


@pytest.mark.parametrize("dtype", NARROW, ids=str)
def test_errors_are_at_most_twice_those_of_eager_pytorch_in_the_same_dtype(dtype):
    values = problem(64, 9, 64, 2, 8, dtype, device="cuda")
    results, exact = run(values), run(values, exact=True)
    eager = run(values, exact=True, kind=dtype)
    for name in ("mean", "z", "logits", "kl"):
        allowed = 2 * distance(eager[name], exact[name]) + 1e-6
        assert distance(results[name], exact[name]) <= allowed, name


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_forbidden_and_required_edges_are_exact(dtype):
    results = run(problem(40, 6, 64, 3, 2, dtype, device="cuda"))
    assert results["z"][:, 0, 1].unique(dim=0).tolist() == [[1.0, 0.0, 0.0]]
    assert results["z"][:, 1, 0].unique(dim=0).tolist() == [[0.0, 0.0, 1.0]]
    assert results["z"][:, 2, 2].unique(dim=0).tolist() == [[1.0, 0.0, 0.0]]
    assert all(x.isfinite().all() for x in results.values())


@pytest.mark.parametrize("seed", [None, -5])
def test_hard_samples_have_the_soft_samples_gradient(seed):
    values = problem(30, 5, 32, 3, 2, prior_per_store=True, device="cuda")
    results, exact = (run(values, exact=e, seed=seed, hard=True) for e in (False, True))
    assert torch.equal(results["z"].double(), exact["z"])
    for name, true in exact.items():
        assert distance(results[name], true) < 6e-5, name


def test_random_words_are_those_of_the_cpu():
    store = torch.arange(40) + 2**33
    for types in (2, 4, 7):
        on_gpu = edge_words(-(2**62) + 5, store.cuda(), 9, types).cpu()
        assert torch.equal(on_gpu, edge_words(-(2**62) + 5, store, 9, types))


@pytest.mark.parametrize("types", [2, 4])
def test_kernels_draw_the_words_of_the_cpu(types):
    """With logits and prior at zero the sample shows the noise alone, whatever the tiling."""
    values = problem(50, 7, 32, types, 0, device="cuda")
    for name in ("wo", "bo", "log_prior"):
        values[name] = torch.zeros_like(values[name])
    store, seed = torch.arange(50) * 2**34 + 7, -(2**62) + 12345
    arguments = [values[n] for n in (*FIRST, *SECOND, "log_prior")]
    z = edge_sample(*arguments, seed=seed, store=store.cuda()).z.cpu()
    pairs = ~torch.eye(7, dtype=torch.bool)
    expected = edge_noise(seed, store, 7, types).softmax(-1)[:, pairs]
    torch.testing.assert_close(z[:, pairs], expected, rtol=2e-5, atol=1e-6)


@pytest.mark.parametrize("width", [64, 256])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_equal_inputs_give_equal_bits(dtype, width, monkeypatch):
    monkeypatch.setattr(tables, "WORKSPACE_BYTES", 16 << 20)
    values = problem(150, 9, width, 2, 8, dtype, device="cuda")
    first = run(values)
    for _ in range(3):
        again = run(values)
        unequal = [name for name in first if not torch.equal(first[name], again[name])]
        assert not unequal


@pytest.mark.parametrize("width", [64, 256])  # 256: the sample goes layer by layer
def test_a_captured_graph_follows_its_seed_forward_and_backward(width):
    values = problem(20, 6, width, 2, 3, torch.bfloat16, device="cuda")
    tensors = {k: v.requires_grad_() for k, v in values.items()}
    store = torch.arange(20, device="cuda") + 2**40
    seed, tau = torch.tensor(1, device="cuda"), torch.tensor(0.5, device="cuda")

    def step(seed: Tensor | int) -> list[Tensor]:
        pair = {n: tensors[n] for n in PAIR}
        mean, states = edge_mean(*(tensors[n] for n in FIRST), **pair, keep_states=True)
        out = edge_sample(
            *(tensors[n] for n in (*FIRST, *SECOND, "log_prior")),
            **pair,
            states=states,
            temperature=tau,
            seed=seed,
            store=store,
        )
        loss = out.z[..., 1].square().sum() + out.kl.sum() + mean.float().square().sum()
        return [out.z, out.kl, mean, *torch.autograd.grad(loss, list(tensors.values()))]

    side = torch.cuda.Stream()  # what capture asks for: a warm-up on a stream of its own
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            step(seed)
    torch.cuda.current_stream().wait_stream(side)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = step(seed)
    seen = []
    for number in (1, 2, -(2**40)):
        seed.fill_(number)
        graph.replay()
        torch.cuda.synchronize()
        replayed = [x.clone() for x in captured]
        assert all(map(torch.equal, replayed, step(number))), number
        seen.append(replayed[0])
    assert not torch.equal(seen[0], seen[1])


def test_runs_on_the_current_stream():
    values = problem(40, 6, 64, 2, 3, torch.bfloat16, device="cuda")
    expected = run(values)
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        results = run(values)
    stream.synchronize()
    assert all(torch.equal(results[name], value) for name, value in expected.items())


def test_sizes_without_a_kernel_take_the_plain_path():
    values = problem(30, 5, 48, 5, 3, device="cuda")
    assert path_of(values) == "chunked"
    results, exact = run(values), run(values, exact=True)
    assert all(distance(results[name], true) < 1e-4 for name, true in exact.items())


def test_registered_operators_pass_torchs_own_checks():
    check_registration(problem(3, 4, 32, 2, 2, device="cuda"))


def test_operators_stay_whole_under_compilation():
    values = problem(30, 6, 64, 2, 3, torch.bfloat16, device="cuda")
    values["w4"].requires_grad_()

    def step() -> Tensor:
        arguments = [values[n] for n in (*FIRST, *SECOND, "log_prior")]
        z = edge_sample(*arguments, seed=torch.tensor(1, device="cuda")).z
        return z.square().sum() + edge_mean(*arguments[:4]).mean.float().square().sum()

    compiled = torch.compile(step, fullgraph=True)
    plain, whole = step(), compiled()
    torch.testing.assert_close(whole, plain, rtol=1e-4, atol=0.0)
    gradients = [torch.autograd.grad(x, values["w4"])[0] for x in (whole, plain)]
    torch.testing.assert_close(*gradients)


def test_training_never_holds_one_whole_edge_tensor(monkeypatch):
    monkeypatch.setattr(tables, "WORKSPACE_BYTES", 64 << 20)
    stores, nodes, width = 4096, 32, 128
    values = problem(8, nodes, width, 2, 0, torch.bfloat16, device="cuda")
    for name in ("sender1", "receiver1", "sender2", "receiver2"):
        values[name] = values[name].repeat(stores // 8, 1, 1)
    tensors = [values[n].requires_grad_() for n in (*FIRST, *SECOND)]

    def step() -> None:
        out = edge_sample(*tensors, values["log_prior"], seed=1)
        (out.z[..., 1].square().sum() + out.kl.sum()).backward()

    step()
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    step()
    edge_tensor = stores * nodes**2 * width * 2
    assert torch.cuda.max_memory_allocated() - before < edge_tensor


def test_offsets_beyond_32_bits_reach_the_last_store():
    """Features of more than 2^31 numbers: the last stores are computed as they are alone."""
    stores, nodes, features = 66_000, 32, 32
    if torch.cuda.get_device_properties(0).total_memory < 32 << 30:
        pytest.skip("needs 32 GiB of GPU memory")
    assert stores * nodes**2 * features > 2**31
    values = problem(8, nodes, 32, 2, features, torch.bfloat16, device="cuda")
    many = {k: v for k, v in values.items() if not k.startswith(("sender", "receiver", "feat"))}
    for name in ("sender1", "receiver1", "sender2", "receiver2", "features"):
        repeats = (stores // 8, *(1 for _ in values[name].shape[1:]))
        many[name] = values[name].repeat(*repeats)
    names = (*FIRST, *SECOND, "log_prior")
    results = []
    for held in (many, values):
        pair = {n: held[n] for n in PAIR}
        ids = torch.arange(len(held["sender1"]), device="cuda") % 8
        with torch.no_grad():
            out = edge_sample(*(held[n] for n in names), **pair, seed=4, store=ids)
            results.append([out.z[-8:], edge_mean(*(held[n] for n in FIRST), **pair).mean[-8:]])
        del out
    for whole, alone in zip(*results, strict=True):
        torch.testing.assert_close(whole, alone)
