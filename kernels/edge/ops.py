"""The edge operators registered with torch: implementation per device, shapes, and gradients.

Opaque to torch.compile (custom_op, not triton_op, whose bodies are traced even on a CPU).
"""

from __future__ import annotations

import importlib
import importlib.util
import os
from typing import Any

import torch
from torch import Tensor

from causalmmm.kernels.edge import chunked


@torch.library.custom_op("causalmmm::edge_mean", mutates_args=())
def edge_mean(
    sender: Tensor,
    receiver: Tensor,
    w2: Tensor,
    b2: Tensor,
    features: Tensor | None,
    wf: Tensor | None,
    keep: int,
) -> list[Tensor]:
    tensors = sender, receiver, w2, b2, features, wf
    if fused := fused_kernels(sender, 2, features):
        return [fused.edge_mean(*tensors), *_kept(sender, 0, passes=1)]
    return chunked.edge_mean(*tensors, keep)


@torch.library.custom_op("causalmmm::edge_mean_backward", mutates_args=())
def edge_mean_backward(
    grad: Tensor,
    kept: list[Tensor],
    sender: Tensor,
    receiver: Tensor,
    w2: Tensor,
    b2: Tensor,
    features: Tensor | None,
    wf: Tensor | None,
    features_grad: bool,
) -> list[Tensor]:
    tensors = sender, receiver, w2, b2, features, wf
    if fused := fused_kernels(sender, 2, features):
        return fused.edge_mean_backward(grad, *tensors, features_grad)
    return chunked.edge_mean_backward(grad, kept, *tensors, features_grad)


@torch.library.custom_op("causalmmm::edge_sample", mutates_args=())
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
    keep: int,
) -> list[Tensor]:
    first = sender1, receiver1, w2, b2
    second = sender2, receiver2, w3, w4, b4, wo, bo
    tensors = *first, *second, log_prior, features, wf, temperature, seed, store
    if fused := fused_kernels(sender1, wo.shape[0], features):
        return [*fused.edge_sample(*tensors, hard), *_kept(sender1, 0, passes=2)]
    return chunked.edge_sample(*tensors, hard, keep)


@torch.library.custom_op("causalmmm::edge_sample_backward", mutates_args=())
def edge_sample_backward(
    grad_z: Tensor,
    grad_logits: Tensor,
    grad_kl: Tensor,
    kept: list[Tensor],
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
    grads = grad_z, grad_logits, grad_kl
    first = sender1, receiver1, w2, b2
    second = sender2, receiver2, w3, w4, b4, wo, bo
    tensors = *first, *second, log_prior, features, wf, temperature, seed, store
    forward: Any = (z, logits, *tensors, hard)
    if fused := fused_kernels(sender1, wo.shape[0], features):
        return fused.edge_sample_backward(*grads, *forward, features_grad, prior_grad)
    plain: Any = chunked.edge_sample_backward
    return plain(*grads, kept, *forward, features_grad, prior_grad)


def fused_kernels(sender: Tensor, types: int, features: Tensor | None) -> Any:
    """The Triton path where it runs and covers the sizes, else None; imports Triton only then."""
    if not (sender.is_cuda or os.environ.get("TRITON_INTERPRET") == "1"):
        return None
    if importlib.util.find_spec("triton") is None:
        return None
    fused = importlib.import_module("causalmmm.kernels.edge.fused")
    return fused if fused.supported(sender, types, features) else None


@edge_mean.register_fake
def _(sender: Tensor, *rest: Any) -> list[Tensor]:
    return [torch.empty_like(sender), *_kept(sender, rest[-1], passes=1)]


@edge_mean_backward.register_fake
def _(grad: Tensor, kept: list[Tensor], *inputs: Any) -> list[Tensor]:
    *tensors, features_grad = inputs
    return _like(tensors, {4: features_grad})


@edge_sample.register_fake
def _(sender1: Tensor, *rest: Any) -> list[Tensor]:
    batch, nodes, _ = sender1.shape
    bo, log_prior = rest[9], rest[10]
    z = log_prior.new_empty(batch, nodes, nodes, bo.shape[0])
    kl = log_prior.new_empty(batch)
    return [z, torch.empty_like(z), kl, *_kept(sender1, rest[-1], passes=2)]


@edge_sample_backward.register_fake
def _(*arguments: Any) -> list[Tensor]:
    features_grad, prior_grad = arguments[-2:]
    return _like(arguments[6:20], {11: prior_grad, 12: features_grad})


def _kept(sender: Tensor, keep: int, passes: int) -> list[Tensor]:
    return [
        tensor for _ in range(passes) for tensor in chunked.Activations.empty(sender, keep).tensors
    ]


def _like(tensors: Any, wanted: dict[int, bool]) -> list[Tensor]:
    """Empty gradients: one per tensor, without entries where there is no tensor or no wish."""
    first = tensors[0]
    return [
        first.new_empty(0, dtype=first.dtype if tensor is None else tensor.dtype)
        if tensor is None or not wanted.get(index, True)
        else torch.empty_like(tensor)
        for index, tensor in enumerate(tensors)
    ]


def _save_mean(ctx: Any, inputs: tuple[Any, ...], output: list[Tensor]) -> None:
    ctx.save_for_backward(*inputs[:6], *output[1:])
    ctx.set_materialize_grads(False)  # no zeros the size of the activations


def _edge_mean_gradients(ctx: Any, grads: list[Tensor | None]) -> tuple[Tensor | None, ...]:
    inputs, kept = ctx.saved_tensors[:6], ctx.saved_tensors[6:]
    if grads[0] is None:
        return (None,) * len(ctx.needs_input_grad)
    gradients = edge_mean_backward(grads[0], list(kept), *inputs, ctx.needs_input_grad[4])
    return _wanted(ctx, gradients)


def _save_sample(ctx: Any, inputs: tuple[Any, ...], output: list[Tensor]) -> None:
    *tensors, ctx.hard, _keep = inputs
    ctx.save_for_backward(*tensors, *output[:2], *output[3:])
    ctx.set_materialize_grads(False)


def _edge_sample_gradients(ctx: Any, grads: list[Tensor | None]) -> tuple[Tensor | None, ...]:
    inputs, kept = ctx.saved_tensors[:17], ctx.saved_tensors[19:]
    z, logits = ctx.saved_tensors[17:19]
    shapes = z, logits, z[:, 0, 0, 0]
    above = [torch.zeros_like(x) if g is None else g for g, x in zip(grads, shapes, strict=False)]
    needs = ctx.needs_input_grad
    gradients = edge_sample_backward(
        *above, list(kept), z, logits, *inputs, ctx.hard, needs[12], needs[11]
    )
    return _wanted(ctx, gradients)


def _wanted(ctx: Any, gradients: list[Tensor]) -> tuple[Tensor | None, ...]:
    needs = ctx.needs_input_grad
    padded = [*gradients, *([None] * (len(needs) - len(gradients)))]
    return tuple(g if need else None for g, need in zip(padded, needs, strict=True))


edge_mean.register_autograd(_edge_mean_gradients, setup_context=_save_mean)
edge_sample.register_autograd(_edge_sample_gradients, setup_context=_save_sample)
