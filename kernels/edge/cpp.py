"""The edge operators through the compiled extension: on a CPU, in float32 and narrower.

Nothing is computed here. The extension works on addresses; this module owns the memory behind them.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from causalmmm.kernels.edge.records import Draw, FirstPass, Kept, SecondPass, each
from causalmmm.kernels.extension import BUILT
from causalmmm.kernels.memory import addresses

if BUILT:
    from causalmmm import _C

DTYPES = (torch.float32, torch.bfloat16, torch.float16)


def unsupported_reasons(first: FirstPass, types: int) -> list[str]:
    """Why the extension does not cover these sizes and this dtype; empty where it does."""
    if not BUILT:
        return ["the extension is not built: pip install causalmmm"]
    sender, features = first.sender1, first.features
    stores, _, width = sender.shape
    reasons = {
        f"tensors are on {sender.device.type}, not on a CPU": sender.device.type != "cpu",
        f"dtype {sender.dtype} is not float32, bfloat16 or float16": sender.dtype not in DTYPES,
        "there are no stores": stores == 0,
        f"width {width} is not a multiple of {_C.EDGE_WIDTH_STEP}": (
            width % _C.EDGE_WIDTH_STEP != 0
        ),
        f"{types} edge types are more than {_C.MAX_EDGE_TYPES}": types > _C.MAX_EDGE_TYPES,
        "there are no features in features": features is not None and features.shape[-1] == 0,
    }
    return [reason for reason, applies in reasons.items() if applies]


def edge_mean(first: FirstPass, keep: bool) -> tuple[Tensor, Kept]:
    """As :func:`causalmmm.kernels.edge.reference.edge_mean`."""
    dense, dtype = each(_dense_float32, first), first.sender1.dtype
    mean = torch.empty_like(dense.sender1)
    kept = Kept.empty(mean) if keep else None
    outputs = addresses([mean, *(kept or (None, None))])
    _C.edge_forward(*_problem(dense), outputs, torch.get_num_threads())
    if kept is None:
        return mean.to(dtype), Kept.nothing(first.sender1)
    return mean.to(dtype), kept._replace(states=kept.states.to(dtype))


def edge_mean_backward(
    grad_mean: Tensor | None,
    grad_states: Tensor | None,
    kept: Kept | None,
    first: FirstPass,
    features_grad: bool,
) -> list[Tensor]:
    """Gradients of the arguments, in their order (empty where there is none)."""
    dense = each(_dense_float32, first)
    if kept is not None:
        kept = each(_dense_float32, kept)
    grad_out = [None if x is None else _dense_float32(x) for x in (grad_mean, grad_states)]
    gradients = _first_buffers(dense, features_grad)
    _C.edge_backward(
        *_problem(dense, kept),
        (),
        addresses([*grad_out, None]),
        addresses([*gradients, None]),
        torch.get_num_threads(),
    )
    return _first_gradients(gradients, first.sender1.dtype)


def edge_sample(
    first: FirstPass, second: SecondPass, draw: Draw, states: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    """As :func:`causalmmm.kernels.edge.reference.edge_sample`, from e where it was kept."""
    first, second = each(_dense_float32, first), each(_dense_float32, second)
    draw = each(Tensor.contiguous, draw)
    batch, nodes, _ = first.sender1.shape
    z = draw.log_prior.new_empty(batch, nodes, nodes, len(second.bo))
    outputs = z, torch.empty_like(z), z.new_empty(batch)
    kept = None if states is None else (_dense_float32(states), None)
    problem = _problem(first, kept, second, draw)
    _C.edge_forward(*problem, addresses(outputs), torch.get_num_threads())
    return outputs


def edge_sample_backward(
    grads: tuple[Tensor | None, Tensor | None, Tensor | None],
    outputs: tuple[Tensor, Tensor],
    first: FirstPass,
    second: SecondPass,
    draw: Draw,
    states: Tensor | None,
    features_grad: bool,
    prior_grad: bool,
) -> list[Tensor]:
    """Gradients of the arguments up to log_prior, in their order (empty where there is none);
    between those of the passes that of `states`, if they were given: then the first has none."""
    dtype = first.sender1.dtype
    first, second = each(_dense_float32, first), each(_dense_float32, second)
    draw = each(Tensor.contiguous, draw)
    grad_out = [None if x is None else _dense_float32(x) for x in grads]
    kept, d_states = None, None
    d_first: list[Tensor | None] = [None] * len(first)
    if states is None:
        d_first = _first_buffers(first, features_grad)
    else:
        kept = (_dense_float32(states), None)
        d_states = torch.empty_like(kept[0])
    d_second = [torch.empty_like(x) for x in second]
    d_prior = torch.empty_like(outputs[0]) if prior_grad else None
    _C.edge_backward(
        *_problem(first, kept, second, draw),
        addresses([*outputs, None]),
        addresses(grad_out),
        addresses([*d_first, d_states, *d_second, d_prior]),
        torch.get_num_threads(),
    )
    if d_prior is None:
        d_prior = draw.log_prior.new_empty(0)
    elif draw.log_prior.ndim == 3:
        d_prior = d_prior.sum(0)
    of_states = torch.empty(0, dtype=dtype) if d_states is None else d_states.to(dtype)
    of_second = [x.to(dtype) for x in d_second]
    return [*_first_gradients(d_first, dtype), of_states, *of_second, d_prior]


def _dense_float32(x: Tensor) -> Tensor:
    """As the extension reads it."""
    return x.to(torch.float32).contiguous()


def _problem(
    first: FirstPass,
    kept: tuple[Tensor, Tensor | None] | None = None,
    second: SecondPass | None = None,
    draw: Draw | None = None,
) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...], Any]:
    """Sizes, then the addresses of each record's tensors, as the extension takes them."""
    features = 0 if first.features is None else first.features.shape[-1]
    sizes = (*first.sender1.shape, features, len(second.bo) if second else 0)
    of_first = addresses([*first, *(kept or (None, None))])
    if second is None or draw is None:
        return sizes, of_first, (), ()
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
    return sizes, of_first, addresses(second), sampling


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
