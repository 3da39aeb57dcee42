"""The response operator as torch sees it, and the arguments that it refuses."""

from __future__ import annotations

import pytest
import torch
from response_problems import (
    _C,
    gradients,
    levels,
    needs_extension,
    panel,
)
from torch import Tensor

from causalmmm.kernels import adstock_hill
from causalmmm.kernels.response import backend


@needs_extension
@pytest.mark.parametrize("moving", [False, True], ids=["constant", "moving"])
def test_the_operators_keep_torchs_rules(moving: bool) -> None:
    x, decay, slope, half, initial = panel(6, moving=moving, stores=3)
    for state in (None, initial):
        inputs = [
            v if v is None else v.clone().requires_grad_() for v in (x, decay, slope, half, state)
        ]
        torch.library.opcheck(torch.ops.causalmmm.adstock_hill.default, inputs)
        response, final = adstock_hill(*inputs)
        plain = [v if v is None else v.detach() for v in inputs]
        torch.library.opcheck(
            torch.ops.causalmmm.adstock_hill_backward.default,
            (
                torch.rand_like(response),
                torch.rand_like(final),
                *plain,
                [True, True, False, True, state is not None],
            ),
        )


@needs_extension
def test_compiles_as_one_graph_with_the_same_result_and_gradients() -> None:
    inputs = panel(24, stores=4)
    compiled = torch.compile(adstock_hill, fullgraph=True)
    for mine, theirs in zip(compiled(*inputs), adstock_hill(*inputs), strict=True):
        torch.testing.assert_close(mine, theirs)
    for mine, theirs in zip(
        gradients(compiled, inputs), gradients(adstock_hill, inputs), strict=True
    ):
        torch.testing.assert_close(mine, theirs)


@needs_extension
def test_the_extension_is_used_where_it_can_be() -> None:
    for dtype in (torch.float32, torch.bfloat16, torch.float64):
        assert backend(torch.empty(1, dtype=dtype)) == "compiled"
    assert backend(torch.empty(1, dtype=torch.float16)) == "reference"
    if not _C.build_info()["cuda"]:
        assert backend(torch.empty(1, device="meta")) == "reference"


def _ones(**other: Tensor) -> dict[str, Tensor]:
    names = ("x", "decay", "slope", "half_saturation")
    sizes = ((2, 5), (2, 1), (2, 1), (2, 1))
    return {n: torch.full(s, 0.5) for n, s in zip(names, sizes, strict=True)} | other


@pytest.mark.parametrize(
    ("wrong", "error", "message"),
    [
        ({"x": torch.ones(2, 0)}, ValueError, "at least one time step"),
        ({"x": torch.tensor(1.0)}, ValueError, "at least one time step"),
        ({"x": torch.ones(2, 5, dtype=torch.int64)}, TypeError, "x must be floating point"),
        ({"decay": torch.ones(2, 4)}, ValueError, "last axis of decay must be 1 or 5"),
        ({"slope": torch.tensor(1.0)}, ValueError, "last axis of slope"),
        ({"half_saturation": torch.ones(2, 3)}, ValueError, "last axis of half_saturation"),
        ({"decay": torch.ones(3, 1)}, ValueError, "do not broadcast"),
        ({"initial": torch.ones(3)}, ValueError, "do not broadcast"),
        ({"initial": torch.ones(2, device="meta")}, ValueError, "initial is on meta, but x is on"),
    ],
)
def test_a_wrong_argument_is_named(
    wrong: dict[str, Tensor], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        adstock_hill(**_ones(**wrong))


@needs_extension
def test_the_bare_operator_names_a_wrong_dtype() -> None:
    x, decay, slope, half = _ones().values()
    with pytest.raises(TypeError, match=r"slope must be torch\.float32 for torch\.float32 x"):
        torch.ops.causalmmm.adstock_hill(x, decay, slope.double(), half, None)


@needs_extension
def test_importing_the_operators_twice_is_refused() -> None:
    import importlib.util

    from causalmmm.kernels.response import op

    second = importlib.util.spec_from_file_location("second_copy", op.__file__)
    assert second is not None
    assert second.loader is not None
    with pytest.raises(ImportError, match="already registered"):
        second.loader.exec_module(importlib.util.module_from_spec(second))


@needs_extension
def test_an_instruction_set_that_is_not_there_is_refused() -> None:
    with pytest.raises(ValueError, match="no cpu level 'mmx'"):
        _C.set_cpu_level("mmx")
    if "avx512" not in levels():
        with pytest.raises(ValueError, match="'avx512' is not available"):
            _C.set_cpu_level("avx512")


@needs_extension
@pytest.mark.skipif(_C is not None and _C.build_info()["cuda"], reason="built with CUDA")
def test_a_build_without_cuda_says_so() -> None:
    with pytest.raises(_C.CudaError, match="built without CUDA kernels; reinstall"):
        _C.response_forward_cuda()
