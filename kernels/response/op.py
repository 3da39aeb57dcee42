"""The compiled response operator as PyTorch operators: registration, fake tensors, autograd.

Nothing is computed here. The extension works on addresses; this module owns the tensors there.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import torch
from torch import Tensor

from causalmmm import _C
from causalmmm.kernels.registration import operator
from causalmmm.kernels.response import layout
from causalmmm.kernels.response.reference import compute_dtype

DTYPES = {torch.float32: 0, torch.bfloat16: 1, torch.float64: 2}
_NAMES = ("x", "decay", "slope", "half_saturation", "initial")

if hasattr(torch.ops.causalmmm, "adstock_hill"):
    raise ImportError(
        "the operator causalmmm::adstock_hill is already registered: the package was imported a "
        "second time under another name; import causalmmm.kernels, never kernels"
    )


@operator("adstock_hill")
def forward(
    x: Tensor, decay: Tensor, slope: Tensor, half_saturation: Tensor, initial: Tensor | None
) -> tuple[Tensor, Tensor]:
    """See :func:`causalmmm.kernels.adstock_hill`; dtypes as `check` demands them."""
    inputs = _prepared(x, decay, slope, half_saturation, initial)
    plan, inputs = _planned(inputs, group=False)
    steps = x.shape[-1]
    response = x.new_empty((*plan.rows, steps))
    final = decay.new_empty(plan.rows)
    arguments = (
        DTYPES[x.dtype],
        plan.sizes,
        steps,
        _addresses(plan, inputs),
        _address(plan, response, timed=True),
        _address(plan, final, timed=False),
    )
    if x.is_cuda:
        _C.response_forward_cuda(*arguments, *_cuda_place(x))
    else:
        _C.response_forward(*arguments, torch.get_num_threads())
    return response, final


@operator("adstock_hill_backward")
def backward(
    grad_response: Tensor,
    grad_final: Tensor,
    x: Tensor,
    decay: Tensor,
    slope: Tensor,
    half_saturation: Tensor,
    initial: Tensor | None,
    needed: Sequence[bool],
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Gradients of x, decay, slope, half_saturation and initial; empty where not `needed`."""
    inputs = _prepared(x, decay, slope, half_saturation, initial)
    plan, inputs = _planned(inputs, group=True)
    steps = x.shape[-1]
    grad_response, grad_final = grad_response.contiguous(), grad_final.contiguous()
    buffers = [
        _gradient_buffer(plan, value, position, wanted)
        for position, (value, wanted) in enumerate(zip(inputs, needed, strict=True))
    ]
    arguments = (
        DTYPES[x.dtype],
        plan.sizes,
        steps,
        _addresses(plan, inputs),
        plan.shared_axes,
        (_address(plan, grad_response, timed=True), _address(plan, grad_final, timed=False)),
        tuple(
            None if buffer is None else _address(plan, buffer, timed=position < 4)
            for position, buffer in enumerate(buffers)
        ),
    )
    if x.is_cuda:
        segments = (steps - 1) // _C.CUDA_SEGMENT
        workspace = decay.new_empty(prod(plan.rows) * segments)
        _C.response_backward_cuda(*arguments, workspace.data_ptr(), *_cuda_place(x))
    else:
        _C.response_backward(*arguments, torch.get_num_threads())
    gradients = [
        decay.new_empty(0)
        if buffer is None or value is None
        else buffer.sum_to_size(value.shape).to(value.dtype)
        for buffer, value in zip(buffers, (x, decay, slope, half_saturation, initial), strict=True)
    ]
    return gradients[0], gradients[1], gradients[2], gradients[3], gradients[4]


@forward.register_fake
def _(
    x: Tensor, decay: Tensor, slope: Tensor, half_saturation: Tensor, initial: Tensor | None
) -> tuple[Tensor, Tensor]:
    leading = [value.shape[:-1] for value in (x, decay, slope, half_saturation)]
    if initial is not None:
        leading.append(initial.shape)
    rows = torch.broadcast_shapes(*leading)
    return x.new_empty((*rows, x.shape[-1])), decay.new_empty(rows)


@backward.register_fake
def _(
    grad_response: Tensor,
    grad_final: Tensor,
    x: Tensor,
    decay: Tensor,
    slope: Tensor,
    half_saturation: Tensor,
    initial: Tensor | None,
    needed: Sequence[bool],
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    gradients = [
        value.new_empty(value.shape) if wanted and value is not None else decay.new_empty(0)
        for value, wanted in zip((x, decay, slope, half_saturation, initial), needed, strict=True)
    ]
    return gradients[0], gradients[1], gradients[2], gradients[3], gradients[4]


def _remember(ctx: Any, inputs: tuple[Tensor | None, ...], output: object) -> None:
    ctx.save_for_backward(*inputs)


def _differentiate(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
    needed = [bool(wanted) for wanted in ctx.needs_input_grad]
    gradients = backward(*grad_outputs, *ctx.saved_tensors, needed)
    return tuple(g if wanted else None for g, wanted in zip(gradients, needed, strict=True))


forward.register_autograd(_differentiate, setup_context=_remember)


# --- tensors to addresses -------------------------------------------------------------------------


def _prepared(*inputs: Tensor | None) -> list[Tensor | None]:
    """Checks what the extension cannot see from addresses, and makes time contiguous."""
    x = inputs[0]
    assert x is not None
    if x.dtype not in DTYPES:
        raise TypeError(f"adstock_hill: x must be float32, bfloat16 or float64, got {x.dtype}")
    for name, value in zip(_NAMES, inputs, strict=True):
        if value is None:
            continue
        if value.device != x.device:
            raise ValueError(f"adstock_hill: {name} is on {value.device}, but x is on {x.device}")
        if name != "x" and value.dtype != compute_dtype(x):
            raise TypeError(
                f"adstock_hill: {name} must be {compute_dtype(x)} for {x.dtype} x, "
                f"got {value.dtype}"
            )
    if x.is_cuda and x.dtype == torch.float64:
        raise TypeError("adstock_hill: float64 is computed on the CPU only, for checking")
    if not (x.is_cuda or x.device.type == "cpu"):
        raise ValueError(f"adstock_hill: no kernel for device {x.device}")
    return [_time_contiguous(v, timed=n != "initial") for n, v in zip(_NAMES, inputs, strict=True)]


def _time_contiguous(value: Tensor | None, timed: bool) -> Tensor | None:
    if value is None or not timed or value.shape[-1] == 1 or value.stride(-1) == 1:
        return value
    return value.contiguous()


def _planned(inputs: list[Tensor | None], group: bool) -> tuple[layout.Plan, list[Tensor | None]]:
    x = inputs[0]
    assert x is not None
    minimum = layout.MIN_GROUPS[x.device.type]
    plan = layout.plan(*_leading(inputs), group, minimum)
    if plan is None:  # more separate axes than the extension counts: spell the broadcast out
        rows = layout.broadcast(_leading(inputs)[0])
        inputs = [
            None
            if v is None
            else v.expand(*rows, *([v.shape[-1]] if n != "initial" else [])).contiguous()
            for n, v in zip(_NAMES, inputs, strict=True)
        ]
        plan = layout.plan(*_leading(inputs), False, minimum)
        assert plan is not None
    return plan, inputs


def _leading(
    inputs: list[Tensor | None],
) -> tuple[tuple[tuple[int, ...], ...], tuple[tuple[int, ...], ...]]:
    """Shapes and strides without the time axis, which `initial` does not have."""
    shapes, strides = [], []
    for name, value in zip(_NAMES, inputs, strict=True):
        if value is not None:
            end = value.ndim - (name != "initial")
            shapes.append(tuple(value.shape[:end]))
            strides.append(value.stride()[:end])
    return tuple(shapes), tuple(strides)


_Address = tuple[int, tuple[int, ...], int]


def _addresses(plan: layout.Plan, inputs: list[Tensor | None]) -> tuple[_Address | None, ...]:
    strides = iter(plan.strides)
    return tuple(
        None
        if v is None
        else (v.data_ptr(), next(strides), int(n == "x" or (n != "initial" and v.shape[-1] != 1)))
        for n, v in zip(_NAMES, inputs, strict=True)
    )


def _address(plan: layout.Plan, value: Tensor, timed: bool) -> _Address:
    end = value.ndim - timed
    strides = plan.strides_of(tuple(value.shape[:end]), value.stride()[:end])
    return value.data_ptr(), strides, int(timed)


def _gradient_buffer(
    plan: layout.Plan, value: Tensor | None, position: int, wanted: bool
) -> Tensor | None:
    if value is None or not wanted:
        return None
    if position == 4:
        return value.new_empty(plan.rows)
    steps = value.shape[-1]
    rows = plan.rows
    if position == 0 or steps > 1:
        rows = plan.sum_shape(tuple(value.shape[:-1]))
    dtype = compute_dtype(value) if plan.shared_axes else value.dtype
    return value.new_empty((*rows, steps), dtype=dtype)


def _cuda_place(x: Tensor) -> tuple[int, int]:
    index = x.get_device()
    return index, torch.cuda.current_stream(index).cuda_stream
