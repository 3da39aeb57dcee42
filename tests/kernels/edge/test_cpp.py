"""The edge operators in the extension, on every instruction set, against float64."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from edge_problems import FIRST, SECOND, distance, path_of, problem, run

from causalmmm.kernels import edge_sample
from causalmmm.kernels.edge import reference

_C = pytest.importorskip(
    "causalmmm._C", reason="the extension is not built (source tree without `pip install`)"
)

LEVELS = ["portable", "avx2", "avx512"]


@pytest.fixture(params=LEVELS[: LEVELS.index(_C.build_info()["cpu_level"]) + 1])
def level(request: pytest.FixtureRequest) -> Iterator[str]:
    before = _C.set_cpu_level(request.param)
    yield request.param
    _C.set_cpu_level(before)


CASES = [
    # stores, nodes, width, types, features, a prior for each store
    (1, 2, 16, 2, 0, False),
    (70, 2, 16, 3, 1, True),  # a tile holds many stores
    (3, 5, 48, 4, 5, False),
    (9, 8, 32, 2, 16, True),
    (2, 17, 64, 5, 17, False),
    (40, 7, 64, 2, 8, False),  # several parts
    (1, 3, 256, 16, 3, True),
]


@pytest.mark.parametrize("keep", [True, False])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_outputs_and_gradients_agree_with_float64(level, case, keep):
    values = problem(*case[:5], prior_per_store=case[5])
    assert path_of(values) == "cpp"
    results, exact = run(values, keep=keep), run(values, exact=True)
    for name, true in exact.items():
        assert distance(results[name], true) < 1e-5, name


@pytest.mark.parametrize("seed", [None, -5])
def test_hard_samples_have_the_soft_samples_gradient(level, seed):
    values = problem(6, 5, 32, 3, 2)
    results, exact = (run(values, exact=e, seed=seed, hard=True) for e in (False, True))
    assert torch.equal(results["z"].double(), exact["z"])
    assert results["z"].detach().unique().tolist() == [0.0, 1.0]
    for name, true in exact.items():
        assert distance(results[name], true) < 1e-5, name


@pytest.mark.parametrize("types", [2, 7])
def test_noise_is_that_of_the_reference(level, types):
    """With logits and prior at zero the sample shows the noise alone."""
    values = problem(3, 7, 16, types, 0)
    for name in ("wo", "bo", "log_prior"):
        values[name] = torch.zeros_like(values[name])
    store, seed = torch.tensor([0, 2**31 + 7, 2**40 + 1]), -(2**62) + 12345
    z = edge_sample(*(values[n] for n in (*FIRST, *SECOND, "log_prior")), seed=seed, store=store).z
    noise = reference.edge_noise(seed, store, 7, types)
    pairs = ~torch.eye(7, dtype=torch.bool)
    torch.testing.assert_close(z[:, pairs], noise.softmax(-1)[:, pairs], rtol=2e-6, atol=1e-7)


def test_the_number_of_threads_does_not_change_a_bit(level):
    values, before = problem(50, 9, 32, 2, 3), torch.get_num_threads()
    results = []
    try:
        for threads in (1, 3, 1):
            torch.set_num_threads(threads)
            results.append(run(values))
    finally:
        torch.set_num_threads(before)
    for name, value in results[0].items():
        assert all(torch.equal(other[name], value) for other in results[1:]), name


def test_a_missing_value_spoils_its_store_and_no_other(level):
    values = problem(5, 4, 16, 2, 2)
    values["sender1"][2, 1, 3] = torch.nan
    results = run(values)
    assert results["mean"].isnan().flatten(1).any(1).tolist() == [b == 2 for b in range(5)]
    assert results["kl"].isnan().tolist() == [b == 2 for b in range(5)]


def test_sizes_that_the_extension_does_not_cover_are_refused_by_name():
    with pytest.raises(ValueError, match="width must be a multiple of 16"):
        _C.edge_forward((1, 2, 8, 0, 0), (1, 1, 1, 1, 0, 0, 0, 0), (), (), (1, 0, 0), 1)
    with pytest.raises(ValueError, match="features and wf"):
        _C.edge_forward((1, 2, 16, 3, 0), (1, 1, 1, 1, 0, 1, 0, 0), (), (), (1, 0, 0), 1)
