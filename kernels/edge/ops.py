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

from causalmmm.kernels.edge import chunked, compiled


@torch.library.custom_op("causalmmm::edge_mean", mutates_args=())
def edge_mean(
    sender: Tensor,
    receiver: Tensor,
    w2: Tensor,
    b2: Tensor,
    features: Tensor | None,
    wf: Tensor | None,
) -> Tensor:
    path: Any = path_for(sender, 2, features)
    return path.edge_mean(sender, receiver, w2, b2, features, wf)


@torch.library.custom_op("causalmmm::edge_mean_backward", mutates_args=())
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
    path: Any = path_for(sender, 2, features)
    return path.edge_mean_backward(grad, sender, receiver, w2, b2, features, wf, features_grad)


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
) -> tuple[Tensor, Tensor, Tensor]:
    first = sender1, receiver1, w2, b2
    second = sender2, receiver2, w3, w4, b4, wo, bo
    path: Any = path_for(sender1, wo.shape[0], features)
    return path.edge_sample(
        *first, *second, log_prior, features, wf, temperature, seed, store, hard
    )


@torch.library.custom_op("causalmmm::edge_sample_backward", mutates_args=())
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
    grads = grad_z, grad_logits, grad_kl
    first = sender1, receiver1, w2, b2
    second = sender2, receiver2, w3, w4, b4, wo, bo
    tensors = *first, *second, log_prior, features, wf, temperature, seed, store
    path: Any = path_for(sender1, wo.shape[0], features)
    return path.edge_sample_backward(*grads, z, logits, *tensors, hard, features_grad, prior_grad)


def path_for(sender: Tensor, types: int, features: Tensor | None) -> Any:
    """The module that computes these sizes on this device; imports Triton only where it is used."""
    on_gpu = sender.is_cuda or os.environ.get("TRITON_INTERPRET") == "1"
    if on_gpu and importlib.util.find_spec("triton") is not None:
        fused = importlib.import_module("causalmmm.kernels.edge.fused")
        if fused.supported(sender, types, features):
            return fused
    return compiled if compiled.supported(sender, types, features) else chunked


@edge_mean.register_fake
def _(sender: Tensor, *rest: Any) -> Tensor:
    return torch.empty_like(sender)


@edge_mean_backward.register_fake
def _(grad: Tensor, *inputs: Any) -> list[Tensor]:
    *tensors, features_grad = inputs
    return _like(tensors, {4: features_grad})


@edge_sample.register_fake
def _(sender1: Tensor, *rest: Any) -> tuple[Tensor, Tensor, Tensor]:
    batch, nodes, _ = sender1.shape
    bo, log_prior = rest[9], rest[10]
    z = log_prior.new_empty(batch, nodes, nodes, bo.shape[0])
    return z, torch.empty_like(z), log_prior.new_empty(batch)


@edge_sample_backward.register_fake
def _(*arguments: Any) -> list[Tensor]:
    features_grad, prior_grad = arguments[-2:]
    return _like(arguments[5:19], {11: prior_grad, 12: features_grad})


def _like(tensors: Any, wanted: dict[int, bool]) -> list[Tensor]:
    """Empty gradients: one per tensor, without entries where there is no tensor or no wish."""
    first = tensors[0]
    return [
        first.new_empty(0, dtype=first.dtype if tensor is None else tensor.dtype)
        if tensor is None or not wanted.get(index, True)
        else torch.empty_like(tensor)
        for index, tensor in enumerate(tensors)
    ]


def _save_mean(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs)


def _edge_mean_gradients(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    gradients = edge_mean_backward(grad, *ctx.saved_tensors, ctx.needs_input_grad[4])
    return _wanted(ctx, gradients)


def _save_sample(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    *tensors, ctx.hard = inputs
    ctx.save_for_backward(*output[:2], *tensors)


def _edge_sample_gradients(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
    needs = ctx.needs_input_grad
    gradients = edge_sample_backward(*grads, *ctx.saved_tensors, ctx.hard, needs[12], needs[11])
    return _wanted(ctx, gradients)


def _wanted(ctx: Any, gradients: list[Tensor]) -> tuple[Tensor | None, ...]:
    needs = ctx.needs_input_grad
    padded = [*gradients, *([None] * (len(needs) - len(gradients)))]
    return tuple(g if need else None for g, need in zip(padded, needs, strict=True))


edge_mean.register_autograd(_edge_mean_gradients, setup_context=_save_mean)
edge_sample.register_autograd(_edge_sample_gradients, setup_context=_save_sample)
