"""The edge operators through the compiled extension: on a CPU, in float32 and narrower.

Nothing is computed here. The extension works on addresses; this module owns the memory behind them.
"""

from __future__ import annotations

from collections.abc import Iterable
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor

from causalmmm.kernels.edge.records import Draw, FirstPass, SecondPass, each

if find_spec("causalmmm._C") is not None:
    from causalmmm import _C
else:  # a source tree without a build
    _C = None  # type: ignore[assignment]


def supported(first: FirstPass, types: int) -> bool:
    """Whether the extension is there and covers these sizes and this dtype."""
    sender, features = first.sender1, first.features
    return (
        _C is not None
        and sender.device.type == "cpu"
        and sender.dtype in (torch.float32, torch.bfloat16, torch.float16)
        and sender.shape[0] > 0
        and sender.shape[2] % _C.EDGE_WIDTH_STEP == 0
        and types <= _C.MAX_EDGE_TYPES
        and (features is None or features.shape[-1] > 0)
    )


def edge_mean(first: FirstPass) -> Tensor:
    """As :func:`causalmmm.kernels.edge.reference.edge_mean`."""
    dense = each(_dense_float32, first)
    out = torch.empty_like(dense.sender1)
    _C.edge_forward(*_problem(dense), _addresses([out]), torch.get_num_threads())
    return out.to(first.sender1.dtype)


def edge_mean_backward(grad: Tensor, first: FirstPass, features_grad: bool) -> list[Tensor]:
    """Gradients of the arguments, in their order (empty where there is none)."""
    dense, grad_out = each(_dense_float32, first), _dense_float32(grad)
    gradients = _first_buffers(dense, features_grad)
    _C.edge_backward(
        *_problem(dense),
        (),
        _addresses([grad_out]),
        _addresses(gradients),
        torch.get_num_threads(),
    )
    return _first_gradients(gradients, first.sender1.dtype)


def edge_sample(first: FirstPass, second: SecondPass, draw: Draw) -> tuple[Tensor, Tensor, Tensor]:
    """As :func:`causalmmm.kernels.edge.reference.edge_sample`."""
    first, second = each(_dense_float32, first), each(_dense_float32, second)
    draw = each(Tensor.contiguous, draw)
    batch, nodes, _ = first.sender1.shape
    z = draw.log_prior.new_empty(batch, nodes, nodes, len(second.bo))
    outputs = z, torch.empty_like(z), z.new_empty(batch)
    problem = _problem(first, second, draw)
    _C.edge_forward(*problem, _addresses(outputs), torch.get_num_threads())
    return outputs


def edge_sample_backward(
    grads: tuple[Tensor, Tensor, Tensor],
    outputs: tuple[Tensor, Tensor],
    first: FirstPass,
    second: SecondPass,
    draw: Draw,
    features_grad: bool,
    prior_grad: bool,
) -> list[Tensor]:
    """Gradients of the arguments up to log_prior, in their order (empty where there is none)."""
    dtype = first.sender1.dtype
    first, second = each(_dense_float32, first), each(_dense_float32, second)
    draw = each(Tensor.contiguous, draw)
    grad_out = [_dense_float32(grad) for grad in grads]
    d_first, d_second = _first_buffers(first, features_grad), [torch.empty_like(x) for x in second]
    d_prior = torch.empty_like(outputs[0]) if prior_grad else None
    _C.edge_backward(
        *_problem(first, second, draw),
        _addresses([*outputs, None]),
        _addresses(grad_out),
        _addresses([*d_first, *d_second, d_prior]),
        torch.get_num_threads(),
    )
    if d_prior is None:
        d_prior = draw.log_prior.new_empty(0)
    elif draw.log_prior.ndim == 3:
        d_prior = d_prior.sum(0)
    return [*_first_gradients(d_first, dtype), *(x.to(dtype) for x in d_second), d_prior]


def _dense_float32(x: Tensor) -> Tensor:
    """As the extension reads it."""
    return x.to(torch.float32).contiguous()


def _problem(
    first: FirstPass, second: SecondPass | None = None, draw: Draw | None = None
) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...], Any]:
    """Sizes, then the addresses of each record's tensors, as the extension takes them."""
    features = 0 if first.features is None else first.features.shape[-1]
    sizes = (*first.sender1.shape, features, len(second.bo) if second else 0)
    if second is None or draw is None:
        return sizes, _addresses(first), (), ()
    prior, store = draw.log_prior, draw.store
    seed = None if draw.seed is None else int(draw.seed)
    prior_per_store = prior.ndim == 4
    sampling = (
        prior.data_ptr(),
        prior_per_store,
        float(draw.temperature),
        seed,
        store.data_ptr(),
        draw.hard,
    )
    return sizes, _addresses(first), _addresses(second), sampling


def _addresses(tensors: Iterable[Tensor | None]) -> tuple[int, ...]:
    return tuple(0 if x is None else x.data_ptr() for x in tensors)


def _first_buffers(first: FirstPass, features_grad: bool) -> list[Tensor | None]:
    """Memory for the gradients of the first pass's arguments; that of wf comes transposed."""
    *dense, features, wf = first
    d_features = torch.empty_like(features) if features_grad and features is not None else None
    d_wf = None if wf is None else wf.new_empty(wf.shape[::-1])
    return [*(torch.empty_like(x) for x in dense), d_features, d_wf]


def _first_gradients(gradients: list[Tensor | None], dtype: torch.dtype) -> list[Tensor]:
    *rest, d_wf = gradients
    in_order = [*rest, None if d_wf is None else d_wf.mT.contiguous()]
    return [torch.empty(0, dtype=dtype) if x is None else x.to(dtype) for x in in_order]
