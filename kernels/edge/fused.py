"""The edge operators through Triton: forward fused, backward by recomputation in bounded scratch.

Imported only when CUDA tensors arrive (or under Triton's interpreter). No atomics, and every sum in
a fixed order: equal inputs give equal bits.
"""

from __future__ import annotations

import torch
import triton
from torch import Tensor

from causalmmm.kernels.edge import configs, scores
from causalmmm.kernels.edge import triton_walks as device
from causalmmm.kernels.edge.layers import (
    FirstLayers,
    SecondLayers,
    contiguous,
    either,
    feature_options,
    on_device,
    row_for,
    settings,
)


def supported(sender: Tensor, types: int, features: Tensor | None) -> bool:
    """Whether the kernels cover these sizes and this dtype."""
    nodes = sender.shape[1]
    return (
        sender.dtype in (torch.float32, torch.bfloat16, torch.float16)
        and row_for(configs.LAYER, sender) is not None
        and row_for(configs.WEIGHT, sender) is not None
        and nodes <= configs.MAX_NODES
        and types <= configs.MAX_TYPES
        and (features is None or 0 < features.shape[-1] <= configs.MAX_FEATURES)
    )


def edge_mean(
    sender: Tensor,
    receiver: Tensor,
    w2: Tensor,
    b2: Tensor,
    features: Tensor | None,
    wf: Tensor | None,
) -> Tensor:
    """As :func:`causalmmm.kernels.edge.reference.edge_mean`; nothing but the result is written."""
    sender, receiver, w2, b2, features, wf = contiguous(sender, receiver, w2, b2, features, wf)
    batch, nodes, width = sender.shape
    out = torch.empty_like(sender)
    launch = row_for(configs.MEAN, sender)
    if launch is None:
        return _mean_by_layers(FirstLayers(sender, receiver, w2, b2, features, wf, False), out)
    if batch:
        with on_device(sender):
            device.edge_mean_fwd_kernel[(triton.cdiv(batch * nodes, launch.rows),)](
                sender,
                receiver,
                w2,
                b2,
                either(features, sender),
                either(wf, sender),
                out,
                batch * nodes,
                nodes,
                width,
                **feature_options(features),
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
    sender, receiver, w2, b2, features, wf = contiguous(sender, receiver, w2, b2, features, wf)
    first = FirstLayers(sender, receiver, w2, b2, features, wf, features_grad)
    grad = grad.contiguous()
    with on_device(sender):
        for chunk in first.chunks():
            first.state(chunk, first.room[2], grad[chunk])
            first.backward(chunk, above=first.room[2], below=first.room[3])
    return first.gradients()


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
    first = contiguous(sender1, receiver1, w2, b2, features, wf)
    second = contiguous(sender2, receiver2, w3, w4, b4)
    ends = contiguous(wo, bo, log_prior)
    wo, bo, log_prior = ends
    sender1, features = first[0], first[4]
    batch, nodes, width = sender1.shape
    types = wo.shape[0]
    z = log_prior.new_empty(batch, nodes, nodes, types)
    logits = torch.empty_like(z)
    for tensor in (z, logits):
        tensor.diagonal(dim1=1, dim2=2).zero_()
    z.diagonal(dim1=1, dim2=2)[:, 0] = 1
    noise = (temperature, either(seed, temperature), store.contiguous())
    prior_step = nodes * nodes if log_prior.ndim == 4 else 0
    options = {
        "K": types,
        "KP": triton.next_power_of_2(types),
        "NOISE": seed is not None,
        "HARD": hard,
    }
    launch = row_for(configs.SAMPLE, sender1)
    if launch is not None:
        kl = log_prior.new_empty(batch, nodes)
        if batch:
            with on_device(sender1):
                device.edge_sample_fwd_kernel[(triton.cdiv(batch * nodes, launch.rows),)](
                    *first[:4],
                    either(features, sender1),
                    either(first[5], sender1),
                    *second,
                    *ends,
                    *noise,
                    z,
                    logits,
                    kl,
                    batch * nodes,
                    nodes,
                    prior_step,
                    width,
                    **feature_options(features),
                    **options,
                    **settings(sender1, launch),
                )
        return z, logits, kl.sum(1)
    kl = log_prior.new_empty(batch)
    sender1, receiver1, w2, b2, features, wf = first
    layers = FirstLayers(sender1, receiver1, w2, b2, features, wf, False)
    tower = SecondLayers(*second, wo=wo, bo=bo, room=layers.room)
    with on_device(sender1):
        for chunk in layers.chunks():
            layers.state(chunk, layers.room[0])
            tower.inner(chunk, layers.room[0])
            prior = log_prior[chunk] if log_prior.ndim == 4 else log_prior
            per_edge = log_prior.new_empty(z[chunk].shape[0], nodes * nodes)
            chunk_noise = (*noise[:2], noise[2][chunk])
            tower.outer(
                chunk,
                (prior, *chunk_noise, z, z[chunk], logits[chunk], per_edge),
                prior_step,
                BACKWARD=False,
                **options,
            )
            kl[chunk] = per_edge.sum(1)
    return z, logits, kl


def edge_sample_backward(
    grad_z: Tensor,
    grad_logits: Tensor,
    grad_kl: Tensor,
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
    above, d_prior = scores.backward(
        (grad_z, grad_logits, grad_kl),
        (z, logits),
        log_prior,
        (temperature, seed, store),
        hard,
        prior_grad,
    )
    sender1, receiver1, w2, b2 = contiguous(sender1, receiver1, w2, b2)
    features, wf = contiguous(features, wf)
    first = FirstLayers(sender1, receiver1, w2, b2, features, wf, features_grad)
    wo, bo = contiguous(wo, bo)
    second = SecondLayers(
        *contiguous(sender2, receiver2, w3, w4, b4), wo=wo, bo=bo, room=first.room
    )
    state, _, upper, lower = first.room
    options = {"K": wo.shape[0], "KP": triton.next_power_of_2(wo.shape[0])}
    with on_device(sender1):
        for chunk in first.chunks():
            first.state(chunk, state)
            second.inner(chunk, state)
            unused = (z, temperature, temperature, store)
            second.outer(
                chunk,
                (*unused, above[chunk], upper, lower, temperature),
                0,
                BACKWARD=True,
                NOISE=False,
                HARD=False,
                **options,
            )
            second.backward(chunk, above[chunk])
            first.stage(chunk, "state", lower, second.w3, state, upper)
            first.backward(chunk, above=upper, below=lower)
    *gradients, d_features, d_wf = first.gradients()
    return [*gradients, *second.gradients(), d_prior, d_features, d_wf]
