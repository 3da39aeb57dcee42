"""The edge operators through Triton: forward fused, backward by recomputation in bounded scratch.

Host code only. Imported when CUDA tensors arrive, or under Triton's interpreter. No atomics, and
every sum in a fixed order: equal inputs give equal bits.
"""

from __future__ import annotations

import torch
import triton
from torch import Tensor

from causalmmm.kernels.edge import sampling
from causalmmm.kernels.edge.records import Draw, FirstPass, SecondPass, each
from causalmmm.kernels.edge.triton import fwd_kernels, tables
from causalmmm.kernels.edge.triton.bwd import (
    FirstLayers,
    SecondLayers,
    feature_options,
    on_device,
    pointers,
    row_for,
    settings,
)


def supported(first: FirstPass, types: int) -> bool:
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


def edge_mean(first: FirstPass) -> Tensor:
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
            fwd_kernels.edge_mean_fwd_kernel[(triton.cdiv(batch * nodes, launch.rows),)](
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
    state = layers.scratch[0]
    with on_device(out):
        for chunk in layers.chunks():
            layers.state(chunk, state)
            layers.mean(chunk, state, out)
    return out


def edge_mean_backward(grad: Tensor, first: FirstPass, features_grad: bool) -> list[Tensor]:
    """Gradients of the arguments, in their order (empty where there is none)."""
    layers = FirstLayers(each(Tensor.contiguous, first), features_grad)
    grad = grad.contiguous()
    with on_device(grad):
        for chunk in layers.chunks():
            layers.state(chunk, layers.scratch[2], grad[chunk])
            layers.backward(chunk, grad_out=layers.scratch[2], grad_in=layers.scratch[3])
    return layers.gradients()


def edge_sample(first: FirstPass, second: SecondPass, draw: Draw) -> tuple[Tensor, Tensor, Tensor]:
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
                fwd_kernels.edge_sample_fwd_kernel[(triton.cdiv(batch * nodes, launch.rows),)](
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
    second_layers = SecondLayers(second, layers.scratch)
    with on_device(sender):
        for chunk in layers.chunks():
            layers.state(chunk, layers.scratch[0])
            second_layers.inner(chunk, layers.scratch[0])
            per_edge = prior.new_empty(z[chunk].shape[0], nodes * nodes)
            tensors = *pointers(draw.of(chunk)), z, z[chunk], logits[chunk], per_edge
            second_layers.outer(chunk, tensors, prior_step, BACKWARD=False, **options)
            kl[chunk] = per_edge.sum(1)
    return z, logits, kl


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
    d_logits, d_prior = sampling.backward(grads, outputs, draw, prior_grad)
    pass1 = FirstLayers(each(Tensor.contiguous, first), features_grad)
    pass2 = SecondLayers(each(Tensor.contiguous, second), pass1.scratch)
    state, _, grad_state, grad_in = pass1.scratch
    options = {**_type_options(len(second.bo)), "BACKWARD": True, "NOISE": False, "HARD": False}
    with on_device(d_logits):
        for chunk in pass1.chunks():
            pass1.state(chunk, state)
            pass2.inner(chunk, state)
            unread = pointers(draw)  # by the backward kernel
            tensors = *unread, d_logits[chunk], grad_state, grad_in, unread[0]
            pass2.outer(chunk, tensors, 0, **options)
            pass2.backward(chunk, d_logits[chunk])
            pass1.layer_backward(chunk, "state", grad_in, pass2.second.w3, state, grad_state)
            pass1.backward(chunk, grad_out=grad_state, grad_in=grad_in)
    return [*pass1.gradients(), *pass2.gradients(), d_prior]


def _type_options(types: int) -> dict[str, int]:
    return {"K": types, "KP": triton.next_power_of_2(types)}
