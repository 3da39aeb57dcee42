"""The edge operators through Triton: forward fused, backward by recomputation in bounded scratch.

Imported only when CUDA tensors arrive (or under Triton's interpreter). No atomics, and every sum in
a fixed order: equal inputs give equal bits.
"""

from __future__ import annotations

import torch
import triton
from torch import Tensor

from causalmmm.kernels.edge import sampling as scores
from causalmmm.kernels.edge.records import Draw, First, Second, each
from causalmmm.kernels.edge.triton import fwd_kernels as device
from causalmmm.kernels.edge.triton import tables
from causalmmm.kernels.edge.triton.bwd import (
    FirstLayers,
    SecondLayers,
    feature_options,
    on_device,
    pointers,
    row_for,
    settings,
)


def supported(first: First, types: int) -> bool:
    """Whether the kernels cover these sizes and this dtype."""
    sender, features = first.sender1, first.features
    return (
        sender.dtype in (torch.float32, torch.bfloat16, torch.float16)
        and row_for(tables.LAYER, sender) is not None
        and row_for(tables.WEIGHT, sender) is not None
        and sender.shape[1] <= tables.MAX_NODES
        and types <= tables.MAX_TYPES
        and (features is None or 0 < features.shape[-1] <= tables.MAX_FEATURES)
    )


def edge_mean(first: First) -> Tensor:
    """As :func:`causalmmm.kernels.edge.reference.edge_mean`; nothing but the result is written."""
    first = each(Tensor.contiguous, first)
    sender = first.sender1
    batch, nodes, width = sender.shape
    out = torch.empty_like(sender)
    launch = row_for(tables.MEAN, sender)
    if launch is None:
        return _mean_by_layers(FirstLayers(first), out)
    if batch:
        with on_device(sender):
            device.edge_mean_fwd_kernel[(triton.cdiv(batch * nodes, launch.rows),)](
                *pointers(first),
                out,
                batch * nodes,
                nodes,
                width,
                **feature_options(first),
                **settings(sender, launch),
            )
    return out


def _mean_by_layers(layers: FirstLayers, out: Tensor) -> Tensor:
    state = layers.room[0]
    with on_device(out):
        for chunk in layers.chunks():
            layers.state(chunk, state)
            layers.mean(chunk, state, out)
    return out


def edge_mean_backward(grad: Tensor, first: First, features_grad: bool) -> list[Tensor]:
    """Gradients of the operands, in their order (empty where there is none)."""
    layers = FirstLayers(each(Tensor.contiguous, first), features_grad)
    grad = grad.contiguous()
    with on_device(grad):
        for chunk in layers.chunks():
            layers.state(chunk, layers.room[2], grad[chunk])
            layers.backward(chunk, grad_out=layers.room[2], grad_in=layers.room[3])
    return layers.gradients()


def edge_sample(first: First, second: Second, draw: Draw) -> tuple[Tensor, Tensor, Tensor]:
    """As :func:`causalmmm.kernels.edge.reference.edge_sample`."""
    first, second = each(Tensor.contiguous, first), each(Tensor.contiguous, second)
    draw = each(Tensor.contiguous, draw)
    sender, prior = first.sender1, draw.log_prior
    batch, nodes, width = sender.shape
    types = len(second.bo)
    z = prior.new_empty(batch, nodes, nodes, types)
    logits = torch.empty_like(z)
    for tensor in (z, logits):
        tensor.diagonal(dim1=1, dim2=2).zero_()
    z.diagonal(dim1=1, dim2=2)[:, 0] = 1
    prior_step = nodes * nodes if prior.ndim == 4 else 0
    options = {**_type_options(types), "NOISE": draw.seed is not None, "HARD": draw.hard}
    launch = row_for(tables.SAMPLE, sender)
    if launch is not None:
        kl = prior.new_empty(batch, nodes)
        if batch:
            with on_device(sender):
                device.edge_sample_fwd_kernel[(triton.cdiv(batch * nodes, launch.rows),)](
                    *pointers(first),
                    *second,
                    *pointers(draw),
                    z,
                    logits,
                    kl,
                    batch * nodes,
                    nodes,
                    prior_step,
                    width,
                    **feature_options(first),
                    **options,
                    **settings(sender, launch),
                )
        return z, logits, kl.sum(1)
    kl = prior.new_empty(batch)
    layers = FirstLayers(first)
    tower = SecondLayers(second, layers.room)
    with on_device(sender):
        for chunk in layers.chunks():
            layers.state(chunk, layers.room[0])
            tower.inner(chunk, layers.room[0])
            per_edge = prior.new_empty(z[chunk].shape[0], nodes * nodes)
            tensors = *pointers(draw.of(chunk)), z, z[chunk], logits[chunk], per_edge
            tower.outer(chunk, tensors, prior_step, BACKWARD=False, **options)
            kl[chunk] = per_edge.sum(1)
    return z, logits, kl


def edge_sample_backward(
    grads: tuple[Tensor, Tensor, Tensor],
    outputs: tuple[Tensor, Tensor],
    first: First,
    second: Second,
    draw: Draw,
    features_grad: bool,
    prior_grad: bool,
) -> list[Tensor]:
    """Gradients of the operands up to log_prior, in their order (empty where there is none)."""
    grad_out, d_prior = scores.backward(grads, outputs, draw, prior_grad)
    lower = FirstLayers(each(Tensor.contiguous, first), features_grad)
    upper = SecondLayers(each(Tensor.contiguous, second), lower.room)
    state, _, above_state, grad_in = lower.room
    options = {**_type_options(len(second.bo)), "BACKWARD": True, "NOISE": False, "HARD": False}
    with on_device(grad_out):
        for chunk in lower.chunks():
            lower.state(chunk, state)
            upper.inner(chunk, state)
            unread = pointers(draw)
            tensors = *unread, grad_out[chunk], above_state, grad_in, unread[0]
            upper.outer(chunk, tensors, 0, **options)
            upper.backward(chunk, grad_out[chunk])
            lower.stage(chunk, "state", grad_in, upper.second.w3, state, above_state)
            lower.backward(chunk, grad_out=above_state, grad_in=grad_in)
    return [*lower.gradients(), *upper.gradients(), d_prior]


def _type_options(types: int) -> dict[str, int]:
    return {"K": types, "KP": triton.next_power_of_2(types)}
