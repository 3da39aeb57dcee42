"""The edge operators through the extension: what runs on a CPU in float32 and narrower.

Nothing is computed here. The extension works on addresses; this module owns the tensors there.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor

if find_spec("causalmmm._C") is not None:
    from causalmmm import _C
else:  # a source tree without a build
    _C = None  # type: ignore[assignment]


def supported(sender: Tensor, types: int, features: Tensor | None) -> bool:
    """Whether the extension is there and covers these sizes and this dtype."""
    return (
        _C is not None
        and sender.device.type == "cpu"
        and sender.dtype in (torch.float32, torch.bfloat16, torch.float16)
        and sender.shape[0] > 0
        and sender.shape[2] % _C.EDGE_WIDTH_STEP == 0
        and types <= _C.MAX_EDGE_TYPES
        and (features is None or features.shape[-1] > 0)
    )


def edge_mean(
    sender: Tensor,
    receiver: Tensor,
    w2: Tensor,
    b2: Tensor,
    features: Tensor | None,
    wf: Tensor | None,
) -> Tensor:
    """As :func:`causalmmm.kernels.edge.reference.edge_mean`."""
    first = _plain(sender, receiver, w2, b2, features, wf)
    out = torch.empty_like(first[0])
    _C.edge_forward(
        _sizes(first), _addresses(first), (), (), _addresses([out]), torch.get_num_threads()
    )
    return out.to(sender.dtype)


def edge_mean_backward(
    grad: Tensor,
    sender: Tensor,
    receiver: Tensor,
    w2: Tensor,
    b2: Tensor,
    features: Tensor | None,
    wf: Tensor | None,
    features_grad: bool,
) -> list[Tensor]:
    """Gradients of sender, receiver, w2, b2, features, wf (empty where there is none)."""
    first = _plain(sender, receiver, w2, b2, features, wf)
    above = _plain(grad)
    gradients = _room(first, features_grad)
    _C.edge_backward(
        _sizes(first),
        _addresses(first),
        (),
        (),
        (),
        _addresses(above),
        _addresses(gradients),
        torch.get_num_threads(),
    )
    return _first_gradients(gradients, sender)


def edge_sample(
    sender1: Tensor,
    receiver1: Tensor,
    w2: Tensor,
    b2: Tensor,
    sender2: Tensor,
    receiver2: Tensor,
    w3: Tensor,
    w4: Tensor,
    b4: Tensor,
    wo: Tensor,
    bo: Tensor,
    log_prior: Tensor,
    features: Tensor | None,
    wf: Tensor | None,
    temperature: Tensor,
    seed: Tensor | None,
    store: Tensor,
    hard: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """As :func:`causalmmm.kernels.edge.reference.edge_sample`."""
    first = _plain(sender1, receiver1, w2, b2, features, wf)
    second = _plain(sender2, receiver2, w3, w4, b4, wo, bo)
    prior, store = log_prior.contiguous(), store.contiguous()
    batch, nodes, _ = sender1.shape
    z = prior.new_empty(batch, nodes, nodes, len(bo))
    results = z, torch.empty_like(z), prior.new_empty(batch)
    _C.edge_forward(
        _sizes(first, second),
        _addresses(first),
        _addresses(second),
        _draw(prior, temperature, seed, store, hard),
        _addresses(results),
        torch.get_num_threads(),
    )
    return results


def edge_sample_backward(
    grad_z: Tensor | None,
    grad_logits: Tensor | None,
    grad_kl: Tensor | None,
    z: Tensor,
    logits: Tensor,
    sender1: Tensor,
    receiver1: Tensor,
    w2: Tensor,
    b2: Tensor,
    sender2: Tensor,
    receiver2: Tensor,
    w3: Tensor,
    w4: Tensor,
    b4: Tensor,
    wo: Tensor,
    bo: Tensor,
    log_prior: Tensor,
    features: Tensor | None,
    wf: Tensor | None,
    temperature: Tensor,
    seed: Tensor | None,
    store: Tensor,
    hard: bool,
    features_grad: bool,
    prior_grad: bool,
) -> list[Tensor]:
    """Gradients of the first fourteen arguments, in their order (empty where there is none)."""
    first = _plain(sender1, receiver1, w2, b2, features, wf)
    second = _plain(sender2, receiver2, w3, w4, b4, wo, bo)
    prior, store = log_prior.contiguous(), store.contiguous()
    above = _plain(grad_z, grad_logits, grad_kl)
    below = _room(first, features_grad)
    gradients = [torch.empty_like(x) for x in second]
    d_prior = torch.empty_like(z) if prior_grad else None
    _C.edge_backward(
        _sizes(first, second),
        _addresses(first),
        _addresses(second),
        _draw(prior, temperature, seed, store, hard),
        _addresses([z, logits, None]),
        _addresses(above),
        _addresses([*below, *gradients, d_prior]),
        torch.get_num_threads(),
    )
    *firsts, d_features, d_wf = _first_gradients(below, sender1)
    if d_prior is None:
        d_prior = prior.new_empty(0)
    elif prior.ndim == 3:
        d_prior = d_prior.sum(0)
    seconds = [x.to(sender1.dtype) for x in gradients]
    return [*firsts, *seconds, d_prior, d_features, d_wf]


def _plain(*tensors: Tensor | None) -> list[Any]:
    """Dense and float32, as the extension reads them."""
    return [None if x is None else x.to(torch.float32).contiguous() for x in tensors]


def _sizes(first: list[Any], second: list[Any] | None = None) -> tuple[int, ...]:
    features = first[4]
    count = 0 if features is None else features.shape[-1]
    return (*first[0].shape, count, len(second[-1]) if second else 0)


def _addresses(tensors: Any) -> tuple[int, ...]:
    return tuple(0 if x is None else x.data_ptr() for x in tensors)


def _draw(
    prior: Tensor, temperature: Tensor, seed: Tensor | None, store: Tensor, hard: bool
) -> tuple[Any, ...]:
    noise = None if seed is None else int(seed)
    return (prior.data_ptr(), prior.ndim == 4, float(temperature), noise, store.data_ptr(), hard)


def _room(first: list[Any], features_grad: bool) -> list[Any]:
    """For the gradients of the first pass's arguments; that of wf comes transposed."""
    *nodes, features, wf = first
    d_features = torch.empty_like(features) if features_grad and features is not None else None
    d_wf = None if wf is None else wf.new_empty(wf.shape[::-1])
    return [*(torch.empty_like(x) for x in nodes), d_features, d_wf]


def _first_gradients(gradients: list[Any], like: Tensor) -> list[Tensor]:
    *nodes, d_features, d_wf = gradients
    found = [*nodes, d_features, None if d_wf is None else d_wf.mT.contiguous()]
    return [like.new_empty(0) if x is None else x.to(like.dtype) for x in found]
