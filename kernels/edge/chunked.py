"""The edge operators in plain PyTorch, store chunk by store chunk: bounded memory anywhere.

What runs in float64, where the extension is not built, and on a GPU for sizes that the Triton
kernels do not cover. float64 stays float64, everything narrower is computed in float32; the
backward pass recomputes what it needs.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from causalmmm.kernels.edge import reference
from causalmmm.kernels.edge import sampling as scores
from causalmmm.kernels.edge.records import Draw, First, Second

# Edges at a time (and thread, on a CPU): few enough for its caches, too many to notice Python.
CHUNK_ROWS = {"cpu": 4096, "gpu": 1 << 18}
EPS = 1e-5


def edge_mean(first: First) -> Tensor:
    """See `reference.edge_mean`."""
    lower = _first_pass(first)
    out = torch.empty_like(first.sender1)
    for chunk in _chunks(out):
        states = lower.forward(chunk, _features(first, chunk, lower.room)).view(lower.shape)
        own = states.diagonal(dim1=1, dim2=2).mT
        out[chunk] = (states.sum(1) - own) / (out.shape[1] - 1)
    return out


def edge_mean_backward(grad: Tensor, first: First, features_grad: bool) -> list[Tensor]:
    """Gradients of the operands, in their order (empty where there is none)."""
    lower = _first_pass(first)
    d_features = _room_for_gradient(first, features_grad)
    for chunk in _chunks(grad):
        feature = _features(first, chunk, lower.room)
        lower.forward(chunk, feature)
        grad_out = lower.room("above", *lower.shape)
        grad_out.copy_(grad[chunk].unsqueeze(1)).div_(grad.shape[1] - 1)
        _clear_self(grad_out)
        grad_in = lower.backward(
            chunk, feature, grad_out.view(-1, grad_out.shape[-1]), features_grad
        )
        if grad_in is not None:
            d_features[chunk] = grad_in.view(d_features[chunk].shape)
    *gradients, d_wf = lower.gradients()
    return [*gradients, d_features, d_wf]


def edge_sample(first: First, second: Second, draw: Draw) -> tuple[Tensor, Tensor, Tensor]:
    """z, logits, kl; see `reference.edge_sample`."""
    lower, upper = _first_pass(first), _second_pass(second)
    dtype = lower.room.dtype
    wo, bo = second.wo.to(dtype), second.bo.to(dtype)
    batch, nodes, _ = first.sender1.shape
    logits = wo.new_empty(batch, nodes, nodes, len(bo))
    for chunk in _chunks(first.sender1):
        edges = lower.forward(chunk, _features(first, chunk, lower.room))
        states = upper.forward(chunk, edges)
        torch.addmm(bo, states, wo.mT, out=logits[chunk].view(-1, len(bo)))
    z, kl = torch.empty_like(logits), logits.new_empty(batch)
    for chunk in scores.chunks(logits):
        part = draw.of(chunk)
        logits[chunk], kl[chunk] = reference.posterior(logits[chunk], part.log_prior)
        noise = scores.noise(part, logits)
        z[chunk] = reference.sample(logits[chunk], noise, draw.temperature, draw.hard)
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
    lower, upper = _first_pass(first), _second_pass(second)
    d_features = _room_for_gradient(first, features_grad)
    wo = second.wo.to(lower.room.dtype)
    d_wo, d_bo = torch.zeros_like(wo.mT), wo.new_zeros(len(wo))
    for chunk in _chunks(first.sender1):
        feature = _features(first, chunk, lower.room)
        edges = lower.forward(chunk, feature)
        states = upper.forward(chunk, edges)
        grad = grad_out[chunk].view(-1, grad_out.shape[-1])
        d_wo.addmm_(states.mT, grad)
        d_bo += grad.sum(0)
        grad = torch.mm(grad, wo, out=upper.room("above", *states.shape))
        d_edges = upper.backward(chunk, edges, grad, extra_grad=True)
        assert d_edges is not None
        grad_in = lower.backward(chunk, feature, d_edges, features_grad)
        if grad_in is not None:
            d_features[chunk] = grad_in.view(d_features[chunk].shape)
    *gradients, d_wf = lower.gradients()
    d_sender, d_receiver, d_w4, d_b4, d_w3 = upper.gradients()
    d_out = d_wo.mT.to(second.wo.dtype), d_bo.to(second.bo.dtype)
    seconds = d_sender, d_receiver, d_w3, d_w4, d_b4, *d_out
    return [*gradients, d_features, d_wf, *seconds, d_prior]


class _Workspace:
    """Named scratch tensors, allocated once: fresh memory for every step would cost too much.

    The first request under a name must be the largest, and holds until the next under that name.
    """

    def __init__(self, dtype: torch.dtype, device: torch.device) -> None:
        self.dtype, self.device = dtype, device
        self.held: dict[str, Tensor] = {}

    def __call__(self, name: str, *shape: int) -> Tensor:
        size = math.prod(shape)
        if name not in self.held:
            self.held[name] = torch.empty(size, dtype=self.dtype, device=self.device)
        return self.held[name][:size].view(shape)


class _Pass:
    """LN(elu(W elu(sender + receiver + V extra) + b)) of one chunk of stores at a time.

    `extra` [rows, G] and V [H, G]: features in the first pass, or none; states of it in the second.
    Rows are (store, sender, receiver). What is returned is overwritten by the next chunk.
    """

    def __init__(
        self,
        sender: Tensor,
        receiver: Tensor,
        extra_weight: Tensor | None,
        weight: Tensor,
        bias: Tensor,
    ) -> None:
        dtype = _compute_dtype(sender)
        self.room = _Workspace(dtype, sender.device)
        self.sender, self.receiver = sender, receiver
        self.weight, self.bias = weight.to(dtype), bias.to(dtype)
        self.extra_weight = None if extra_weight is None else extra_weight.to(dtype)
        self.sums: list[Tensor] = []

    def forward(self, chunk: slice, extra: Tensor | None) -> Tensor:
        """State [rows, H]."""
        room = self.room
        sender, receiver = (x[chunk].to(room.dtype) for x in (self.sender, self.receiver))
        stores, nodes, width = sender.shape
        self.shape = (stores, nodes, nodes, width)
        rows = (stores * nodes * nodes, width)
        self.inner, self.state = room("inner", *rows), room("state", *rows)
        pairs = sender.unsqueeze(2), receiver.unsqueeze(1)
        torch.add(*pairs, out=self.inner.view(self.shape))
        if extra is not None and self.extra_weight is not None:
            self.inner.addmm_(extra, self.extra_weight.mT)
        _elu(self.inner, room)
        self.outer = torch.addmm(self.bias, self.inner, self.weight.mT, out=room("outer", *rows))
        _elu(self.outer, room)
        self.rstd = _normalise(self.outer, self.state, room)
        return self.state

    def backward(
        self, chunk: slice, extra: Tensor | None, grad: Tensor, extra_grad: bool
    ) -> Tensor | None:
        """Adds up the gradients; `grad` [rows, H] of the state, zero on self pairs, is overwritten.

        To be called after `forward` of the same chunk. Returns the gradient of `extra`.
        """
        room = self.room
        if not self.sums:
            self._start()
        d_sender, d_receiver, d_weight, d_bias, d_extra_weight = self.sums
        _elu_backward(_normalise_backward(grad, self.state, self.rstd, room), self.outer, room)
        d_weight.addmm_(grad.mT, self.inner)
        d_bias += grad.sum(0)
        lower = torch.mm(grad, self.weight, out=room("lower", *grad.shape))
        _elu_backward(lower, self.inner, room)
        pairs = lower.view(self.shape)
        d_sender[chunk], d_receiver[chunk] = pairs.sum(2), pairs.sum(1)
        if extra is None or self.extra_weight is None:
            return None
        d_extra_weight.addmm_(extra.mT, lower)
        if not extra_grad:
            return None
        return torch.mm(lower, self.extra_weight, out=room("below", *extra.shape))

    def gradients(self) -> list[Tensor]:
        """Of sender, receiver, weight, bias, and of the weight of `extra` (empty without one)."""
        if not self.sums:
            self._start()
        dtype = self.sender.dtype
        d_sender, d_receiver, d_weight, d_bias, d_extra_weight = self.sums
        return [
            d_sender,
            d_receiver,
            d_weight.to(dtype),
            d_bias.to(dtype),
            d_extra_weight.mT.to(dtype, copy=True).contiguous(),
        ]

    def _start(self) -> None:
        extra = self.weight[:0] if self.extra_weight is None else self.extra_weight.mT
        self.sums = [
            torch.empty_like(self.sender),
            torch.empty_like(self.receiver),
            torch.zeros_like(self.weight),
            torch.zeros_like(self.bias),
            torch.zeros(extra.shape, dtype=self.room.dtype, device=extra.device),
        ]


def _first_pass(first: First) -> _Pass:
    return _Pass(first.sender1, first.receiver1, first.wf, first.w2, first.b2)


def _second_pass(second: Second) -> _Pass:
    return _Pass(second.sender2, second.receiver2, second.w3, second.w4, second.b4)


def _chunks(x: Tensor) -> Iterator[slice]:
    batch, nodes = x.shape[:2]
    on_cpu = x.device.type == "cpu"
    rows = CHUNK_ROWS["cpu"] * torch.get_num_threads() if on_cpu else CHUNK_ROWS["gpu"]
    size = max(1, rows // nodes**2)
    for start in range(0, batch, size):
        yield slice(start, min(start + size, batch))


def _features(first: First, chunk: slice, room: _Workspace) -> Tensor | None:
    """Features [rows, F] of a chunk, zero on self pairs, whose own values have no meaning."""
    if first.features is None:
        return None
    features = first.features[chunk]
    own = room("features", *features.shape).copy_(features)
    _clear_self(own)
    return own.view(-1, own.shape[-1])


def _room_for_gradient(first: First, wanted: bool) -> Tensor:
    if first.features is None or not wanted:
        return first.sender1.new_empty(0)
    return torch.empty_like(first.features)


def _clear_self(x: Tensor) -> None:
    """Zero the self pairs of [B, N, N, ...] in place."""
    x.diagonal(dim1=1, dim2=2).zero_()


def _elu(x: Tensor, room: _Workspace) -> Tensor:
    """elu in place as max(x, exp(min(x, 0)) - 1): half the time of torch's, which calls expm1."""
    negative = torch.clamp_max(x, 0, out=room("spare", *x.shape))
    return torch.maximum(x, negative.exp_().sub_(1), out=x)


def _elu_backward(grad: Tensor, value: Tensor, room: _Workspace) -> Tensor:
    """In place: the slope of elu is 1 where its value is positive, value + 1 elsewhere."""
    slope = torch.clamp_max(value, 0, out=room("spare", *grad.shape)).add_(1)
    return grad.mul_(slope)


def _normalise(x: Tensor, state: Tensor, room: _Workspace) -> Tensor:
    """LayerNorm of [rows, H] into `state`; returns 1 / standard deviation [rows, 1].

    Averages are matrix products: torch's own LayerNorm takes twice as long on short rows.
    """
    average = x.new_full((x.shape[1], 1), 1 / x.shape[1])
    mean = x @ average
    torch.sub(x, mean, out=state)
    square = torch.mul(state, state, out=room("spare", *x.shape))
    rstd = (square @ average).add_(EPS).rsqrt_()
    state.mul_(rstd)
    return rstd


def _normalise_backward(grad: Tensor, state: Tensor, rstd: Tensor, room: _Workspace) -> Tensor:
    """In place on `grad`."""
    average = grad.new_full((grad.shape[1], 1), 1 / grad.shape[1])
    product = torch.mul(grad, state, out=room("spare", *grad.shape))
    shift, tilt = grad @ average, product @ average
    return grad.sub_(shift).addcmul_(state, tilt, value=-1).mul_(rstd)


def _compute_dtype(x: Tensor) -> torch.dtype:
    return torch.float64 if x.dtype == torch.float64 else torch.float32
