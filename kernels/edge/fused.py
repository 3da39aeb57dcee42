"""The edge operators through Triton: forward fused, backward by recomputation in bounded scratch.

Imported only when CUDA tensors arrive (or under Triton's interpreter). No atomics, and every sum in
a fixed order: equal inputs give equal bits.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
import triton
from torch import Tensor
from triton import knobs

from causalmmm.kernels.edge import configs, scores
from causalmmm.kernels.edge import triton_kernels as device


def supported(sender: Tensor, types: int, features: Tensor | None) -> bool:
    """Whether the kernels cover these sizes and this dtype."""
    _, nodes, width = sender.shape
    return (
        sender.dtype in (torch.float32, torch.bfloat16, torch.float16)
        and (width, sender.element_size()) in configs.MEAN
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
    sender, receiver, w2, b2, features, wf = _contiguous(sender, receiver, w2, b2, features, wf)
    batch, nodes, width = sender.shape
    out = torch.empty_like(sender)
    launch = configs.MEAN[width, sender.element_size()]
    if batch:
        with _on(sender):
            device.edge_mean_fwd_kernel[(triton.cdiv(batch * nodes, launch.rows),)](
                sender,
                receiver,
                w2,
                b2,
                _or(features, sender),
                _or(wf, sender),
                out,
                batch * nodes,
                nodes,
                width,
                **_features(features),
                **_settings(sender, launch),
            )
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
    sender, receiver, w2, b2, features, wf = _contiguous(sender, receiver, w2, b2, features, wf)
    first = _FirstLayers(sender, receiver, w2, b2, features, wf, features_grad)
    grad = grad.contiguous()
    with _on(sender):
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
    first = _contiguous(sender1, receiver1, w2, b2, features, wf)
    second = _contiguous(sender2, receiver2, w3, w4, b4)
    ends = _contiguous(wo, bo, log_prior)
    wo, bo, log_prior = ends
    sender1, features = first[0], first[4]
    batch, nodes, width = sender1.shape
    types = wo.shape[0]
    z = log_prior.new_empty(batch, nodes, nodes, types)
    logits = torch.empty_like(z)
    for tensor in (z, logits):
        tensor.diagonal(dim1=1, dim2=2).zero_()
    z.diagonal(dim1=1, dim2=2)[:, 0] = 1
    noise = (temperature, _or(seed, temperature), store.contiguous())
    prior_step = nodes * nodes if log_prior.ndim == 4 else 0
    options = {
        "K": types,
        "KP": triton.next_power_of_2(types),
        "NOISE": seed is not None,
        "HARD": hard,
    }
    launch = configs.SAMPLE.get((width, sender1.element_size()))
    if launch is not None:
        kl = log_prior.new_empty(batch, nodes)
        if batch:
            with _on(sender1):
                device.edge_sample_fwd_kernel[(triton.cdiv(batch * nodes, launch.rows),)](
                    *first[:4],
                    _or(features, sender1),
                    _or(first[5], sender1),
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
                    **_features(features),
                    **options,
                    **_settings(sender1, launch),
                )
        return z, logits, kl.sum(1)
    kl = log_prior.new_empty(batch)
    sender1, receiver1, w2, b2, features, wf = first
    layers = _FirstLayers(sender1, receiver1, w2, b2, features, wf, False)
    tower = _SecondLayers(*second, wo=wo, bo=bo, room=layers.room)
    with _on(sender1):
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
    sender1, receiver1, w2, b2 = _contiguous(sender1, receiver1, w2, b2)
    features, wf = _contiguous(features, wf)
    first = _FirstLayers(sender1, receiver1, w2, b2, features, wf, features_grad)
    wo, bo = _contiguous(wo, bo)
    second = _SecondLayers(
        *_contiguous(sender2, receiver2, w3, w4, b4), wo=wo, bo=bo, room=first.room
    )
    state, _, upper, lower = first.room
    options = {"K": wo.shape[0], "KP": triton.next_power_of_2(wo.shape[0])}
    with _on(sender1):
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


class _Layers:
    """One pass, on scratch tensors of a chunk of stores; collects the gradients of its weights."""

    def __init__(self, sender: Tensor, receiver: Tensor) -> None:
        self.sender, self.receiver = sender, receiver
        self.batch, self.nodes, self.width = sender.shape
        self.launch = configs.LAYER[self.width, sender.element_size()]
        self.sums: dict[str, Tensor] = {}
        self.d_sender, self.d_receiver = torch.empty_like(sender), torch.empty_like(receiver)

    def edges(self, chunk: slice) -> int:
        return (chunk.stop - chunk.start) * self.nodes**2

    def run(self, kernel: Any, chunk: slice, *arguments: Any, **options: Any) -> None:
        """Launch a kernel whose tiles are edges of the chunk."""
        edges = self.edges(chunk)
        kernel[(triton.cdiv(edges, self.launch.rows),)](
            *arguments, edges, self.nodes, **options, **_settings(self.sender, self.launch)
        )

    def add_weight(self, name: str, chunk: slice, x: Tensor, y: Tensor) -> None:
        """sums[name] += x.T y [H, G] and sums[name + "/bias"] += column sums of x."""
        launch = configs.WEIGHT[self.width, x.element_size()]
        wide = y.shape[1]
        block = min(configs.WEIGHT_BLOCK, self.width), min(configs.WEIGHT_BLOCK, wide)
        tiles = triton.cdiv(self.edges(chunk), launch.rows)
        parts = min(configs.PARTS, tiles)
        weight = x.new_empty(parts, self.width, wide, dtype=torch.float32)
        bias = x.new_empty(parts, self.width, dtype=torch.float32)
        device.weight_grad_kernel[(parts, self.width // block[0], wide // block[1])](
            x,
            y,
            weight,
            bias,
            self.edges(chunk),
            triton.cdiv(tiles, parts),
            self.width,
            wide,
            *block,
            **_settings(x, launch),
        )
        for key, part in ((name, weight), (f"{name}/bias", bias)):
            total = part.sum(0)
            self.sums[key] = self.sums[key] + total if key in self.sums else total

    def add_nodes(self, chunk: slice, grad: Tensor) -> None:
        """Sums of scratch rows over receivers and over senders."""
        pairs = grad[: self.edges(chunk)].view(-1, self.nodes, self.nodes, self.width)
        self.d_sender[chunk], self.d_receiver[chunk] = pairs.sum(1), pairs.sum(2)

    def total(self, name: str, like: Tensor) -> Tensor:
        found = self.sums.get(name)
        return torch.zeros_like(like) if found is None else found.to(like.dtype)


class _FirstLayers(_Layers):
    """e = LN(elu(W2 elu(sender + receiver + Wf f) + b2))."""

    def __init__(
        self,
        sender: Tensor,
        receiver: Tensor,
        w2: Tensor,
        b2: Tensor,
        features: Tensor | None,
        wf: Tensor | None,
        features_grad: bool,
    ) -> None:
        super().__init__(sender, receiver)
        self.w2, self.b2, self.features, self.wf = w2, b2, features, wf
        self.d_features = sender.new_empty(0)
        if features_grad and features is not None:
            self.d_features = torch.empty_like(features)
        stores = configs.WORKSPACE_BYTES // (4 * self.nodes**2 * self.width * sender.element_size())
        self.step = max(1, min(stores, self.batch))
        edges = self.step * self.nodes**2
        self.room = [sender.new_empty(edges, self.width) for _ in range(4)]
        self.statistics = [sender.new_empty(edges, dtype=torch.float32) for _ in range(2)]

    def chunks(self) -> Iterator[slice]:
        for start in range(0, self.batch, self.step):
            yield slice(start, min(start + self.step, self.batch))

    def state(self, chunk: slice, out: Tensor, above: Tensor | None = None) -> None:
        """e and its statistics; given the gradient of the mean, that below the last elu."""
        self.run(
            device.edge_state_kernel,
            chunk,
            self.sender[chunk],
            self.receiver[chunk],
            self.w2,
            self.b2,
            *self._features(chunk),
            _or(above, out),
            out,
            *self.statistics,
            H=self.width,
            BACKWARD=above is not None,
            **_features(self.features),
        )

    def stage(
        self, chunk: slice, kind: str, above: Tensor, weight: Tensor, value: Tensor, below: Tensor
    ) -> None:
        self.run(
            device.edge_stage_kernel,
            chunk,
            above,
            weight,
            value,
            *self.statistics,
            self.sender[chunk],
            self.receiver[chunk],
            *self._features(chunk),
            below,
            H=self.width,
            KIND=kind,
            **_features(self.features),
        )

    def backward(self, chunk: slice, above: Tensor, below: Tensor) -> None:
        """From the gradient below the last elu to the pass's inputs; `room[1]` gets overwritten."""
        inner = self.room[1]
        self.stage(chunk, "first", above, self.w2, inner, below)
        self.add_weight("w2", chunk, above, inner)
        self.add_nodes(chunk, below)
        if self.features is None or self.wf is None:
            return
        stores, count = chunk.stop - chunk.start, self.features.shape[-1]
        padded = below.new_zeros(stores, self.nodes, self.nodes, _padded(count))
        padded[..., :count] = self.features[chunk].transpose(1, 2)
        padded.diagonal(dim1=1, dim2=2).zero_()
        self.add_weight("wf", chunk, below, padded.view(-1, padded.shape[-1]))
        if self.d_features.numel():
            below = below[: self.edges(chunk)] @ self.wf
            self.d_features[chunk] = below.view(padded[..., :count].shape).transpose(1, 2)

    def gradients(self) -> list[Tensor]:
        d_wf = self.sender.new_empty(0)
        if self.wf is not None:
            wide = self.wf.new_zeros(self.width, _padded(self.wf.shape[1]))
            d_wf = self.total("wf", wide)[:, : self.wf.shape[1]].contiguous()
        weights = self.total("w2", self.w2), self.total("w2/bias", self.b2)
        return [self.d_sender, self.d_receiver, *weights, self.d_features, d_wf]

    def _features(self, chunk: slice) -> tuple[Tensor, Tensor]:
        if self.features is None or self.wf is None:
            return self.sender, self.sender
        return self.features[chunk], self.wf


class _SecondLayers(_Layers):
    """l = Wo LN(elu(W4 elu(sender + receiver + W3 e) + b4)) + bo."""

    def __init__(
        self,
        sender: Tensor,
        receiver: Tensor,
        w3: Tensor,
        w4: Tensor,
        b4: Tensor,
        *,
        wo: Tensor,
        bo: Tensor,
        room: list[Tensor],
    ) -> None:
        super().__init__(sender, receiver)
        self.w3, self.w4, self.b4, self.wo, self.bo, self.room = w3, w4, b4, wo, bo, room
        self.d_bo = torch.zeros_like(bo, dtype=torch.float32)

    def inner(self, chunk: slice, state: Tensor) -> None:
        nodes = self.sender[chunk], self.receiver[chunk]
        self.run(
            device.edge_inner_kernel, chunk, *nodes, self.w3, state, self.room[1], H=self.width
        )

    def outer(
        self, chunk: slice, tensors: tuple[Tensor, ...], prior_step: int, **options: Any
    ) -> None:
        weights = self.w4, self.b4, self.wo, self.bo
        self.run(
            device.edge_outer_kernel,
            chunk,
            self.room[1],
            *weights,
            *tensors,
            prior_step=prior_step,
            H=self.width,
            **options,
        )

    def backward(self, chunk: slice, above: Tensor) -> None:
        """After a backward `outer`: weights, node gradients, and room[3], the inner gradient."""
        state, inner, upper, last = self.room
        types = above.shape[-1]
        padded = upper.new_zeros(*above.shape[:3], 16)
        padded[..., :types] = above.transpose(1, 2)
        self.add_weight("wo", chunk, last, padded.view(-1, 16))
        self.d_bo += above.sum((0, 1, 2))
        self.add_weight("w4", chunk, upper, inner)
        unused = (inner, inner, self.sender, self.receiver, inner, inner)
        self.run(
            device.edge_stage_kernel,
            chunk,
            upper,
            self.w4,
            inner,
            *unused,
            last,
            H=self.width,
            F=0,
            FP=0,
            KIND="inner",
        )
        self.add_weight("w3", chunk, last, state)
        self.add_nodes(chunk, last)

    def gradients(self) -> list[Tensor]:
        types = len(self.bo)
        wide = self.wo.new_zeros(self.width, 16)
        return [
            self.d_sender,
            self.d_receiver,
            self.total("w3", self.w3),
            self.total("w4", self.w4),
            self.total("w4/bias", self.b4),
            self.total("wo", wide)[:, :types].mT.contiguous(),
            self.d_bo.to(self.bo.dtype),
        ]


def _contiguous(*tensors: Tensor | None) -> list[Any]:
    return [None if tensor is None else tensor.contiguous() for tensor in tensors]


def _or(tensor: Tensor | None, placeholder: Tensor) -> Tensor:
    return placeholder if tensor is None else tensor


def _padded(features: int) -> int:
    """The inner dimension of a product must be a power of two, and 16 at least."""
    return max(16, triton.next_power_of_2(features))


def _features(features: Tensor | None) -> dict[str, int]:
    count = 0 if features is None else features.shape[-1]
    return {"F": count, "FP": _padded(count) if count else 0}


def _settings(x: Tensor, launch: configs.Launch) -> dict[str, Any]:
    interpreted = bool(knobs.runtime.interpret)
    precision = "ieee" if interpreted or x.dtype != torch.float32 else "tf32x3"
    return {
        "BM": launch.rows,
        "PRECISION": precision,
        "EMULATE": interpreted,
        "num_warps": launch.warps,
        "num_stages": launch.stages,
    }


def _on(x: Tensor) -> AbstractContextManager[Any]:
    return torch.cuda.device(x.device) if x.is_cuda else nullcontext()
