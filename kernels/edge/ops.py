"""The edge operators registered with torch: choice of implementation, shapes, and gradients.

No arithmetic here. Opaque to torch.compile (unlike triton_op, whose bodies are traced even
on a CPU). Arguments of torch's operators are flat: here, and nowhere else, records are unpacked and
packed again.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from causalmmm.kernels.edge import chunked, cpp
from causalmmm.kernels.edge.records import Draw, FirstPass, Kept, SecondPass, schema
from causalmmm.kernels.registration import operator

_FIRST, _ALL = schema(FirstPass), schema(FirstPass, SecondPass, Draw)
_GRAD_OUT = "Tensor? grad_z, Tensor? grad_logits, Tensor? grad_kl, Tensor z, Tensor logits"
_SECOND, _DRAW = (
    len(FirstPass._fields),
    len(FirstPass._fields) + len(SecondPass._fields),
)  # positions at which they start
_FEATURES = FirstPass._fields.index("features")
# Bytes of e that the first pass may keep for the second; beyond them it is computed again.
STATES_BYTES = {"cpu": 64 << 20, "cuda": 2 << 30}


def edge_mean(first: FirstPass, keep_states: bool) -> tuple[Tensor, Tensor | None]:
    """Mean of e, and e itself if it is to be kept and there is room."""
    keep = keep_states and _states_bytes(first.sender1) <= STATES_BYTES.get(
        first.sender1.device.type, 0
    )
    mean, states, _ = _edge_mean(*first, keep)
    return mean, states if keep else None


def edge_sample(
    first: FirstPass, second: SecondPass, draw: Draw, states: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    return _edge_sample(*first, *second, *draw, states)


def path_for(first: FirstPass, types: int = 2) -> Any:
    """The module that computes these sizes on this device; imports Triton only where it is used."""
    return _choose(first, types)[0]


def unsupported_reasons(first: FirstPass, types: int = 2) -> dict[str, list[str]]:
    """Why each path that comes before the chosen one was refused, by the module's name."""
    return _choose(first, types)[1]


def _choose(first: FirstPass, types: int) -> tuple[Any, dict[str, list[str]]]:
    refused: dict[str, list[str]] = {}
    for name, candidate in (("triton", _triton(first)), ("cpp", cpp), ("chunked", chunked)):
        if isinstance(candidate, str):
            refused[name] = [candidate]
        elif reasons := candidate.unsupported_reasons(first, types):
            refused[name] = reasons
        else:
            return candidate, refused
    raise AssertionError("chunked takes everything")


def _triton(first: FirstPass) -> Any:
    """The Triton path, or why it cannot be loaded."""
    if not first.sender1.is_cuda and os.environ.get("TRITON_INTERPRET") != "1":
        return f"tensors are on {first.sender1.device.type}, not on a GPU"
    if importlib.util.find_spec("triton") is None:
        return "triton is not installed: pip install 'causalmmm[triton]'"
    return importlib.import_module("causalmmm.kernels.edge.triton.launch")


def _states_bytes(sender: Tensor) -> int:
    batch, nodes, width = sender.shape
    return batch * nodes**2 * width * sender.dtype.itemsize


@operator("edge_mean", f"({_FIRST}, bool keep) -> (Tensor, Tensor, Tensor)")
def _edge_mean(*flat: Any) -> tuple[Tensor, Tensor, Tensor]:
    *arguments, keep = flat
    first = FirstPass(*arguments)
    mean, kept = path_for(first).edge_mean(first, keep)
    return mean, *kept


@operator(
    "edge_mean_backward",
    "(Tensor? grad, Tensor? grad_states, Tensor states, Tensor moments, "
    f"{_FIRST}, bool keep, bool features_grad) -> Tensor[]",
)
def _edge_mean_backward(
    grad: Tensor | None, grad_states: Tensor | None, states: Tensor, moments: Tensor, *flat: Any
) -> list[Tensor]:
    *arguments, keep, features_grad = flat
    first, kept = FirstPass(*arguments), Kept(states, moments) if keep else None
    return path_for(first).edge_mean_backward(grad, grad_states, kept, first, features_grad)


@operator("edge_sample", f"({_ALL}, Tensor? states) -> (Tensor, Tensor, Tensor)")
def _edge_sample(*flat: Any) -> tuple[Tensor, Tensor, Tensor]:
    *arguments, states = flat
    first, second, draw = _packed(arguments)
    return path_for(first, len(second.bo)).edge_sample(first, second, draw, states)


@operator(
    "edge_sample_backward",
    f"({_GRAD_OUT}, {_ALL}, Tensor? states, bool features_grad, bool prior_grad) -> Tensor[]",
)
def _edge_sample_backward(*flat: Any) -> list[Tensor]:
    grads, outputs, arguments, (states, *needed) = flat[:3], flat[3:5], flat[5:-3], flat[-3:]
    first, second, draw = _packed(arguments)
    path = path_for(first, len(second.bo))
    return path.edge_sample_backward(grads, outputs, first, second, draw, states, *needed)


def _packed(flat: Sequence[Any]) -> tuple[FirstPass, SecondPass, Draw]:
    return FirstPass(*flat[:_SECOND]), SecondPass(*flat[_SECOND:_DRAW]), Draw(*flat[_DRAW:])


@_edge_mean.register_fake
def _(*flat: Any) -> tuple[Tensor, Tensor, Tensor]:
    sender, keep = flat[0], flat[-1]
    return torch.empty_like(sender), *(Kept.empty(sender) if keep else Kept.nothing(sender))


@_edge_mean_backward.register_fake
def _(*flat: Any) -> list[Tensor]:
    *arguments, _, features_grad = flat[4:]
    return _like(arguments, {_FEATURES: features_grad})


@_edge_sample.register_fake
def _(*flat: Any) -> tuple[Tensor, Tensor, Tensor]:
    *arguments, _ = flat
    first, second, draw = _packed(arguments)
    batch, nodes, _ = first.sender1.shape
    z = draw.log_prior.new_empty(batch, nodes, nodes, second.bo.shape[0])
    return z, torch.empty_like(z), draw.log_prior.new_empty(batch)


@_edge_sample_backward.register_fake
def _(*flat: Any) -> list[Tensor]:
    states, features_grad, prior_grad = flat[-3:]
    tensors = flat[5 : 5 + _DRAW + 1]
    of_first = dict.fromkeys(range(_SECOND), states is None)
    if not features_grad:
        of_first[_FEATURES] = False
    gradients = _like(tensors, {**of_first, _DRAW: prior_grad})
    return [*gradients[:_SECOND], *_like([states], {}, tensors[0]), *gradients[_SECOND:]]


def _like(
    tensors: Sequence[Tensor | None], needed: dict[int, bool], like: Tensor | None = None
) -> list[Tensor]:
    """Uninitialised gradients, one per tensor; of no elements where it is absent or not needed."""
    like = tensors[0] if like is None else like
    assert like is not None
    return [
        like.new_empty(0, dtype=like.dtype if tensor is None else tensor.dtype)
        if tensor is None or not needed.get(index, True)
        else torch.empty_like(tensor)
        for index, tensor in enumerate(tensors)
    ]


def _save_mean(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    *tensors, ctx.keep = inputs
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(*output[1:], *tensors)


def _edge_mean_gradients(
    ctx: Any, grad: Tensor | None, grad_states: Tensor | None, _: Tensor | None
) -> tuple[Tensor | None, ...]:
    saved, features_grad = ctx.saved_tensors, ctx.needs_input_grad[_FEATURES]
    grad_states = grad_states if ctx.keep else None
    gradients = _edge_mean_backward(grad, grad_states, *saved, ctx.keep, features_grad)
    return _for_inputs(ctx, gradients)


def _save_sample(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    *tensors, ctx.hard, states = inputs
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(*output[:2], *tensors, states)


def _edge_sample_gradients(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
    *tensors, states = ctx.saved_tensors
    kept = states is not None
    needed = ctx.needs_input_grad[_FEATURES] and not kept, ctx.needs_input_grad[_DRAW]
    gradients = _edge_sample_backward(*grads, *tensors, ctx.hard, states, *needed)
    of_first, d_states, others = gradients[:_SECOND], gradients[_SECOND], gradients[_SECOND + 1 :]
    if kept:  # e was computed elsewhere: what the first pass was given has no part in this
        of_first = [None] * _SECOND
    inputs = _for_inputs(ctx, [*of_first, *others])
    return *inputs[:-1], d_states if kept and ctx.needs_input_grad[-1] else None


def _for_inputs(ctx: Any, gradients: Sequence[Tensor | None]) -> tuple[Tensor | None, ...]:
    """One gradient per input of the operator, None where none is needed."""
    needs = ctx.needs_input_grad
    padded = [*gradients, *([None] * (len(needs) - len(gradients)))]
    return tuple(g if need else None for g, need in zip(padded, needs, strict=True))


_edge_mean.register_autograd(_edge_mean_gradients, setup_context=_save_mean)
_edge_sample.register_autograd(_edge_sample_gradients, setup_context=_save_sample)
