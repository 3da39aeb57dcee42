"""The edge operators in PyTorch, one chunk of stores at a time: bounded memory on any device.

Runs in float64, where the extension is not built, and on a GPU for sizes that the Triton kernels do
not cover. No registration and no dispatch here. float64 stays float64, everything narrower is
computed in float32; the backward pass recomputes what it needs.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from causalmmm.kernels.edge import reference, sampling
from causalmmm.kernels.edge.records import Draw, FirstPass, Kept, SecondPass

# Edges at a time (per thread, on a CPU): few enough for its caches, and so many that the time spent
# in Python does not show.
CHUNK_ROWS = {"cpu": 4096, "gpu": 1 << 18}
EPS = 1e-5


def unsupported_reasons(first: FirstPass, types: int) -> list[str]:
    """None: this path takes everything."""
    return []


def edge_mean(first: FirstPass, keep: bool) -> tuple[Tensor, Kept]:
    """See `reference.edge_mean`."""
    pass1 = _first_pass(first)
    out = torch.empty_like(first.sender1)
    kept = Kept.empty(out) if keep else Kept.nothing(out)
    for chunk in _chunks(out):
        states = pass1.forward(chunk, _features(first, chunk, pass1.scratch)).view(pass1.shape)
        self_pairs = states.diagonal(dim1=1, dim2=2).mT  # [B, N, H]
        out[chunk] = (states.sum(1) - self_pairs) / (out.shape[1] - 1)
        if keep:
            kept.states[chunk] = states
            moments = torch.cat([pass1.mean, pass1.rstd], 1)  # [rows, 2]
            kept.moments[chunk] = moments.view(*pass1.shape[:3], 2)
    return out, kept


def edge_mean_backward(
    grad_mean: Tensor | None,
    grad_states: Tensor | None,
    kept: Kept | None,
    first: FirstPass,
    features_grad: bool,
) -> list[Tensor]:
    """Gradients of the arguments, in their order (empty where there is none)."""
    pass1 = _first_pass(first)
    d_features = _gradient_buffer(first, features_grad)
    for chunk in _chunks(first.sender1):
        feature = _features(first, chunk, pass1.scratch)
        if kept is None:
            pass1.forward(chunk, feature)
        else:
            pass1.restore(chunk, feature, kept.of(chunk))
        grad = pass1.scratch("grad_out", *pass1.shape).zero_()
        if grad_mean is not None:
            grad += grad_mean[chunk].unsqueeze(1) / (pass1.shape[1] - 1)
        if grad_states is not None:
            grad += grad_states[chunk]
        _clear_self(grad)
        d_chunk = pass1.backward(chunk, feature, grad.view(-1, grad.shape[-1]), features_grad)
        if d_chunk is not None:  # [rows, F]
            d_features[chunk] = d_chunk.view(d_features[chunk].shape)
    *gradients, d_wf = pass1.gradients()
    return [*gradients, d_features, d_wf]


def edge_sample(
    first: FirstPass, second: SecondPass, draw: Draw, states: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    """z, logits, kl; see `reference.edge_sample`."""
    pass1, pass2 = _first_pass(first), _second_pass(second)
    dtype = pass1.scratch.dtype
    wo, bo = second.wo.to(dtype), second.bo.to(dtype)
    batch, nodes, _ = first.sender1.shape
    logits = wo.new_empty(batch, nodes, nodes, len(bo))
    for chunk in _chunks(first.sender1):
        last = pass2.forward(chunk, _edges(pass1, first, chunk, states))
        torch.addmm(bo, last, wo.mT, out=logits[chunk].view(-1, len(bo)))
    z, kl = torch.empty_like(logits), logits.new_empty(batch)
    for chunk in sampling.chunks(logits):
        chunk_draw = draw.of(chunk)
        logits[chunk], kl[chunk] = reference.posterior(logits[chunk], chunk_draw.log_prior)
        noise = sampling.noise(chunk_draw, logits)
        z[chunk] = reference.sample(logits[chunk], noise, draw.temperature, draw.hard)
    return z, logits, kl


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
    d_logits, d_prior = sampling.backward(grads, outputs, draw, prior_grad)
    pass1, pass2 = _first_pass(first), _second_pass(second)
    d_features = _gradient_buffer(first, features_grad)
    d_states = first.sender1.new_empty(0) if states is None else torch.empty_like(states)
    wo = second.wo.to(pass1.scratch.dtype)
    d_wo, d_bo = torch.zeros_like(wo.mT), wo.new_zeros(len(wo))
    for chunk in _chunks(first.sender1):
        edges = _edges(pass1, first, chunk, states)
        last = pass2.forward(chunk, edges)
        d_chunk_logits = d_logits[chunk].view(-1, d_logits.shape[-1])  # [rows, K]
        d_wo.addmm_(last.mT, d_chunk_logits)
        d_bo += d_chunk_logits.sum(0)
        grad = torch.mm(d_chunk_logits, wo, out=pass2.scratch("grad_out", *last.shape))
        d_edges = pass2.backward(chunk, edges, grad, extra_grad=True)
        assert d_edges is not None
        if states is not None:
            d_states[chunk] = d_edges.view(d_states[chunk].shape)
            continue
        feature = _features(first, chunk, pass1.scratch)
        d_chunk = pass1.backward(chunk, feature, d_edges, features_grad)  # [rows, F]
        if d_chunk is not None:
            d_features[chunk] = d_chunk.view(d_features[chunk].shape)
    d_sender, d_receiver, d_w4, d_b4, d_w3 = pass2.gradients()
    d_output = d_wo.mT.to(second.wo.dtype), d_bo.to(second.bo.dtype)
    d_second = d_sender, d_receiver, d_w3, d_w4, d_b4, *d_output
    if states is None:
        *gradients, d_wf = pass1.gradients()
        d_first = [*gradients, d_features, d_wf]
    else:
        d_first = [first.sender1.new_empty(0) for _ in first]
    return [*d_first, d_states, *d_second, d_prior]


def _edges(pass1: _Pass, first: FirstPass, chunk: slice, states: Tensor | None) -> Tensor:
    """States of a chunk's edges [rows, H]: those given, else computed."""
    if states is None:
        return pass1.forward(chunk, _features(first, chunk, pass1.scratch))
    given = states[chunk]
    return pass1.scratch("state", *given.shape).copy_(given).view(-1, given.shape[-1])


class _Workspace:
    """Named scratch tensors, allocated once: fresh memory for every step would cost too much.

    The first request under a name must be the largest, and holds until the next under that name.
    """

    def __init__(self, dtype: torch.dtype, device: torch.device) -> None:
        self.dtype, self.device = dtype, device
        self.buffers: dict[str, Tensor] = {}

    def __call__(self, name: str, *shape: int) -> Tensor:
        size = math.prod(shape)
        if name not in self.buffers:
            self.buffers[name] = torch.empty(size, dtype=self.dtype, device=self.device)
        return self.buffers[name][:size].view(shape)


class _Pass:
    """One all-pairs pass, LN(elu(W elu(sender + receiver + V extra) + b)), chunk by chunk.

    `extra` [rows, G], with V [H, G], are the features in the first pass (or None), and the first
    pass's states in the second. Rows are (store, sender, receiver). The tensors returned are
    overwritten by the next chunk.
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
        self.scratch = _Workspace(dtype, sender.device)
        self.sender, self.receiver = sender, receiver
        self.weight, self.bias = weight.to(dtype), bias.to(dtype)
        self.extra_weight = None if extra_weight is None else extra_weight.to(dtype)
        self.sums: list[Tensor] = []

    def forward(self, chunk: slice, extra: Tensor | None) -> Tensor:
        """States of the chunk's edges [rows, H]."""
        self._first_layer(chunk, extra)
        scratch = self.scratch
        self.state = scratch("state", *self.inner.shape)
        self.outer = torch.addmm(
            self.bias, self.inner, self.weight.mT, out=scratch("outer", *self.inner.shape)
        )
        _elu(self.outer, scratch)
        self.mean, self.rstd = _normalise(self.outer, self.state, scratch)
        return self.state

    def restore(self, chunk: slice, extra: Tensor | None, kept: Kept) -> None:
        """What `forward` leaves behind for `backward`, from what was kept of the chunk."""
        self._first_layer(chunk, extra)
        size, scratch = self.inner.shape, self.scratch
        self.state = scratch("state", *size).copy_(kept.states.view(size))
        moments = kept.moments.view(-1, 2).to(scratch.dtype)
        self.mean, self.rstd = moments[:, :1], moments[:, 1:]
        self.outer = torch.div(self.state, self.rstd, out=scratch("outer", *size)).add_(self.mean)

    def _first_layer(self, chunk: slice, extra: Tensor | None) -> None:
        scratch = self.scratch
        sender, receiver = (x[chunk].to(scratch.dtype) for x in (self.sender, self.receiver))
        stores, nodes, width = sender.shape
        self.shape = (stores, nodes, nodes, width)
        size = (stores * nodes * nodes, width)
        self.inner = scratch("inner", *size)
        pairs = sender.unsqueeze(2), receiver.unsqueeze(1)
        torch.add(*pairs, out=self.inner.view(self.shape))
        if extra is not None and self.extra_weight is not None:
            self.inner.addmm_(extra, self.extra_weight.mT)
        _elu(self.inner, scratch)

    def backward(
        self, chunk: slice, extra: Tensor | None, grad: Tensor, extra_grad: bool
    ) -> Tensor | None:
        """Adds the chunk's share to the gradients; returns that of `extra` [rows, G], if asked for.

        `grad` [rows, H], of the states and zero on self pairs, is overwritten. To be called right
        after `forward` of the same chunk.
        """
        scratch = self.scratch
        if not self.sums:
            self._zero_sums()
        d_sender, d_receiver, d_weight, d_bias, d_extra_weight = self.sums
        _elu_backward(
            _normalise_backward(grad, self.state, self.rstd, scratch), self.outer, scratch
        )
        d_weight.addmm_(grad.mT, self.inner)
        d_bias += grad.sum(0)
        d_inner = torch.mm(grad, self.weight, out=scratch("d_inner", *grad.shape))  # [rows, H]
        _elu_backward(d_inner, self.inner, scratch)
        pairs = d_inner.view(self.shape)  # [B, sender, receiver, H]
        d_sender[chunk], d_receiver[chunk] = pairs.sum(2), pairs.sum(1)
        if extra is None or self.extra_weight is None:
            return None
        d_extra_weight.addmm_(extra.mT, d_inner)
        if not extra_grad:
            return None
        return torch.mm(d_inner, self.extra_weight, out=scratch("d_extra", *extra.shape))

    def gradients(self) -> list[Tensor]:
        """Of sender, receiver, weight, bias, and of the weight of `extra` (empty without one)."""
        if not self.sums:
            self._zero_sums()
        dtype = self.sender.dtype
        d_sender, d_receiver, d_weight, d_bias, d_extra_weight = self.sums
        return [
            d_sender,
            d_receiver,
            d_weight.to(dtype),
            d_bias.to(dtype),
            d_extra_weight.mT.to(dtype, copy=True).contiguous(),
        ]

    def _zero_sums(self) -> None:
        extra = self.weight[:0] if self.extra_weight is None else self.extra_weight.mT
        self.sums = [
            torch.empty_like(self.sender),
            torch.empty_like(self.receiver),
            torch.zeros_like(self.weight),
            torch.zeros_like(self.bias),
            torch.zeros(extra.shape, dtype=self.scratch.dtype, device=extra.device),
        ]


def _first_pass(first: FirstPass) -> _Pass:
    return _Pass(first.sender1, first.receiver1, first.wf, first.w2, first.b2)


def _second_pass(second: SecondPass) -> _Pass:
    return _Pass(second.sender2, second.receiver2, second.w3, second.w4, second.b4)


def _chunks(x: Tensor) -> Iterator[slice]:
    batch, nodes = x.shape[:2]
    on_cpu = x.device.type == "cpu"
    rows = CHUNK_ROWS["cpu"] * torch.get_num_threads() if on_cpu else CHUNK_ROWS["gpu"]
    size = max(1, rows // nodes**2)
    for start in range(0, batch, size):
        yield slice(start, min(start + size, batch))


def _features(first: FirstPass, chunk: slice, scratch: _Workspace) -> Tensor | None:
    """Features [rows, F] of a chunk, zero on self pairs, whose own values have no meaning."""
    if first.features is None:
        return None
    features = first.features[chunk]
    masked = scratch("features", *features.shape).copy_(features)
    _clear_self(masked)
    return masked.view(-1, masked.shape[-1])


def _gradient_buffer(first: FirstPass, needed: bool) -> Tensor:
    if first.features is None or not needed:
        return first.sender1.new_empty(0)
    return torch.empty_like(first.features)


def _clear_self(x: Tensor) -> None:
    """Zeroes the self pairs of [B, N, N, ...] in place."""
    x.diagonal(dim1=1, dim2=2).zero_()


def _elu(x: Tensor, scratch: _Workspace) -> Tensor:
    """elu in place as max(x, exp(min(x, 0)) - 1): half the time of torch's, which calls expm1."""
    negative = torch.clamp_max(x, 0, out=scratch("spare", *x.shape))
    return torch.maximum(x, negative.exp_().sub_(1), out=x)


def _elu_backward(grad: Tensor, value: Tensor, scratch: _Workspace) -> Tensor:
    """In place: the slope of elu is 1 where its value is positive, value + 1 elsewhere."""
    slope = torch.clamp_max(value, 0, out=scratch("spare", *grad.shape)).add_(1)
    return grad.mul_(slope)


def _normalise(x: Tensor, state: Tensor, scratch: _Workspace) -> tuple[Tensor, Tensor]:
    """LayerNorm of [rows, H] into `state`; returns mean and 1 / standard deviation [rows, 1].

    Averages are matrix products: torch's own LayerNorm takes twice as long on short rows.
    """
    average = x.new_full((x.shape[1], 1), 1 / x.shape[1])
    mean = x @ average
    torch.sub(x, mean, out=state)
    square = torch.mul(state, state, out=scratch("spare", *x.shape))
    rstd = (square @ average).add_(EPS).rsqrt_()
    state.mul_(rstd)
    return mean, rstd


def _normalise_backward(grad: Tensor, state: Tensor, rstd: Tensor, scratch: _Workspace) -> Tensor:
    """In place on `grad`."""
    average = grad.new_full((grad.shape[1], 1), 1 / grad.shape[1])
    product = torch.mul(grad, state, out=scratch("spare", *grad.shape))
    mean_grad, mean_product = grad @ average, product @ average  # [rows, 1]
    return grad.sub_(mean_grad).addcmul_(state, mean_product, value=-1).mul_(rstd)


def _compute_dtype(x: Tensor) -> torch.dtype:
    return torch.float64 if x.dtype == torch.float64 else torch.float32
