"""One all-pairs pass layer by layer, forward and backward, in scratch for a chunk of stores.

Host code that launches `layer_kernels`: for the backward pass, and for forward where the fused
kernels do not fit; also what every launch needs. `launch` puts the passes together.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
import triton
from torch import Tensor
from triton import knobs

from causalmmm.kernels.edge.records import Draw, FirstPass, SecondPass
from causalmmm.kernels.edge.triton import layer_kernels, tables


class _Layers:
    """What both passes share: launches over a chunk's edges, and sums of gradients over chunks."""

    def __init__(self, sender: Tensor, receiver: Tensor) -> None:
        self.sender, self.receiver = sender, receiver
        self.batch, self.nodes, self.width = sender.shape
        self.launch = required(tables.LAYER, sender)
        self.sums: dict[str, Tensor] = {}
        self.d_sender, self.d_receiver = torch.empty_like(sender), torch.empty_like(receiver)

    def edges(self, chunk: slice) -> int:
        return (chunk.stop - chunk.start) * self.nodes**2

    def run(self, kernel: Any, chunk: slice, *arguments: Any, **options: Any) -> None:
        """Launch a kernel whose tiles are edges of the chunk."""
        edges = self.edges(chunk)
        kernel[(triton.cdiv(edges, self.launch.rows),)](
            *arguments,
            edges,
            self.nodes,
            BK=self.launch.depth or self.width,
            **options,
            **settings(self.sender, self.launch),
        )

    def add_weight(self, name: str, chunk: slice, grad: Tensor, value: Tensor) -> None:
        """sums[name] += grad.T value [H, G] and sums[name + "/bias"] += column sums of grad [H]."""
        launch = required(tables.WEIGHT, grad)
        columns = value.shape[1]
        block = min(tables.WEIGHT_BLOCK, self.width), min(tables.WEIGHT_BLOCK, columns)
        tiles = triton.cdiv(self.edges(chunk), launch.rows)
        parts = min(tables.PARTS, tiles)
        weight_sums = grad.new_empty(parts, self.width, columns, dtype=torch.float32)
        bias_sums = grad.new_empty(parts, self.width, dtype=torch.float32)
        layer_kernels.edge_weight_bwd_kernel[(parts, self.width // block[0], columns // block[1])](
            grad,
            value,
            weight_sums,
            bias_sums,
            self.edges(chunk),
            triton.cdiv(tiles, parts),
            self.width,
            columns,
            *block,
            **settings(grad, launch),
        )
        for key, partial in ((name, weight_sums), (f"{name}/bias", bias_sums)):
            total = partial.sum(0)
            self.sums[key] = self.sums[key] + total if key in self.sums else total

    def add_nodes(self, chunk: slice, grad: Tensor) -> None:
        """Node gradients of the chunk: sums of scratch rows over receivers and over senders."""
        pairs = grad[: self.edges(chunk)].view(-1, self.nodes, self.nodes, self.width)
        self.d_sender[chunk], self.d_receiver[chunk] = pairs.sum(1), pairs.sum(2)

    def total(self, name: str, like: Tensor) -> Tensor:
        gradient = self.sums.get(name)
        return torch.zeros_like(like) if gradient is None else gradient.to(like.dtype)


class FirstLayers(_Layers):
    """The first pass, e = LN(elu(W2 elu(sender + receiver + Wf f) + b2)).

    scratch     four tensors [Q, H], Q the edges of a chunk, which the second pass uses too
    statistics  mean and 1 / standard deviation [Q] of LayerNorm's input, float32
    """

    def __init__(self, first: FirstPass, features_grad: bool = False) -> None:
        sender, features = first.sender1, first.features
        super().__init__(sender, first.receiver1)
        self.first = first
        self.d_features = sender.new_empty(0)
        if features_grad and features is not None:
            self.d_features = torch.empty_like(features)
        stores = tables.WORKSPACE_BYTES // (4 * self.nodes**2 * self.width * sender.element_size())
        self.step = max(1, min(stores, self.batch))
        edges = self.step * self.nodes**2
        self.scratch = [sender.new_empty(edges, self.width) for _ in range(4)]
        self.statistics = [sender.new_empty(edges, dtype=torch.float32) for _ in range(2)]

    def chunks(self) -> Iterator[slice]:
        for start in range(0, self.batch, self.step):
            yield slice(start, min(start + self.step, self.batch))

    def state(self, chunk: slice, out: Tensor, grad_out: Tensor | None = None) -> None:
        """e and its statistics; given the gradient of the mean, that of the last elu's input."""
        self.run(
            layer_kernels.edge_state_kernel,
            chunk,
            *pointers(self.first.of(chunk)),
            either(grad_out, out),
            out,
            *self.statistics,
            H=self.width,
            BACKWARD=grad_out is not None,
            **feature_options(self.first),
        )

    def mean(self, chunk: slice, state: Tensor, out: Tensor) -> None:
        """Mean over senders of e, whose self pairs are overwritten."""
        pairs = state[: self.edges(chunk)].view(-1, self.nodes, self.nodes, self.width)
        pairs.diagonal(dim1=1, dim2=2).zero_()
        torch.div(pairs.sum(2), self.nodes - 1, out=out[chunk])

    def layer_backward(
        self,
        chunk: slice,
        kind: str,
        grad_out: Tensor,
        weight: Tensor,
        value: Tensor,
        grad_in: Tensor,
    ) -> None:
        """See `edge_layer_bwd_kernel`."""
        sender, receiver, _, _, features, wf = pointers(self.first.of(chunk))
        self.run(
            layer_kernels.edge_layer_bwd_kernel,
            chunk,
            grad_out,
            weight,
            value,
            *self.statistics,
            sender,
            receiver,
            features,
            wf,
            grad_in,
            H=self.width,
            KIND=kind,
            **feature_options(self.first),
        )

    def backward(self, chunk: slice, grad_out: Tensor, grad_in: Tensor) -> None:
        """From the gradient of the last elu's input to the pass's inputs; overwrites scratch[1]."""
        inner = self.scratch[1]
        self.layer_backward(chunk, "first", grad_out, self.first.w2, inner, grad_in)
        self.add_weight("w2", chunk, grad_out, inner)
        self.add_nodes(chunk, grad_in)
        features, wf = self.first.features, self.first.wf
        if features is None or wf is None:
            return
        stores, count = chunk.stop - chunk.start, features.shape[-1]
        padded = grad_in.new_zeros(stores, self.nodes, self.nodes, _padded(count))
        padded[..., :count] = features[chunk].transpose(1, 2)
        padded.diagonal(dim1=1, dim2=2).zero_()
        self.add_weight("wf", chunk, grad_in, padded.view(-1, padded.shape[-1]))
        if self.d_features.numel():
            d_features = grad_in[: self.edges(chunk)] @ wf  # [Q, F]
            self.d_features[chunk] = d_features.view(padded[..., :count].shape).transpose(1, 2)

    def gradients(self) -> list[Tensor]:
        d_wf, wf = self.sender.new_empty(0), self.first.wf
        if wf is not None:
            padded = wf.new_zeros(self.width, _padded(wf.shape[1]))
            d_wf = self.total("wf", padded)[:, : wf.shape[1]].contiguous()
        weights = self.total("w2", self.first.w2), self.total("w2/bias", self.first.b2)
        return [self.d_sender, self.d_receiver, *weights, self.d_features, d_wf]


class SecondLayers(_Layers):
    """The second pass, Wo LN(elu(W4 elu(sender + receiver + W3 e) + b4)) + bo: logits."""

    def __init__(self, second: SecondPass, scratch: list[Tensor]) -> None:
        super().__init__(second.sender2, second.receiver2)
        self.second, self.scratch = second, scratch
        self.d_bo = torch.zeros_like(second.bo, dtype=torch.float32)

    def inner(self, chunk: slice, state: Tensor) -> None:
        """First layer, elu(sender + receiver + W3 e), into scratch[1]."""
        nodes = self.sender[chunk], self.receiver[chunk]
        inner = self.scratch[1]
        self.run(
            layer_kernels.edge_inner_fwd_kernel,
            chunk,
            *nodes,
            self.second.w3,
            state,
            inner,
            H=self.width,
        )

    def outer(
        self, chunk: slice, tensors: tuple[Tensor, ...], prior_step: int, **options: Any
    ) -> None:
        """All after the first layer; see `edge_outer_kernel`, also for `tensors`."""
        _, _, _, *weights = self.second
        self.run(
            layer_kernels.edge_outer_kernel,
            chunk,
            self.scratch[1],
            *weights,
            *tensors,
            prior_step=prior_step,
            H=self.width,
            **options,
        )

    def backward(self, chunk: slice, grad_out: Tensor) -> None:
        """After a backward `outer`: gradients of weights and nodes, and in scratch[3] that of the
        first layer's input. `grad_out` [B, N, N, K] is of the logits."""
        state, inner, grad, last = self.scratch  # grad [Q, H], of the last elu's input
        types = grad_out.shape[-1]
        padded = grad.new_zeros(*grad_out.shape[:3], 16)
        padded[..., :types] = grad_out.transpose(1, 2)
        self.add_weight("wo", chunk, last, padded.view(-1, 16))  # sums [H, 16], transposed later
        self.d_bo += grad_out.sum((0, 1, 2))
        self.add_weight("w4", chunk, grad, inner)
        unused = (inner, inner, self.sender, self.receiver, inner, inner)
        self.run(
            layer_kernels.edge_layer_bwd_kernel,
            chunk,
            grad,
            self.second.w4,
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
        second = self.second
        padded = second.wo.new_zeros(self.width, 16)
        return [
            self.d_sender,
            self.d_receiver,
            self.total("w3", second.w3),
            self.total("w4", second.w4),
            self.total("w4/bias", second.b4),
            self.total("wo", padded)[:, : len(second.bo)].mT.contiguous(),
            self.d_bo.to(second.bo.dtype),
        ]


def row_for(table: tables.Table, x: Tensor) -> tables.Launch | None:
    """The row of a table for tensors [.., H] of this dtype on this device."""
    size = x.shape[-1], x.element_size()
    return tables.find(table, *size, *_device(x.device)) if x.is_cuda else tables.find(table, *size)


def required(table: tables.Table, x: Tensor) -> tables.Launch:
    row = row_for(table, x)
    assert row is not None, "no row for these sizes: check `supported` first"
    return row


@functools.cache
def _device(device: torch.device) -> tuple[str, int]:
    """Architecture, and bytes of shared memory that a block may have."""
    index = torch.cuda.current_device() if device.index is None else device.index
    major, minor = torch.cuda.get_device_capability(index)
    limits = triton.runtime.driver.active.utils.get_device_properties(index)
    return f"sm_{major}{minor}", limits["max_shared_mem"]


def pointers(record: FirstPass | Draw) -> list[Tensor]:
    """Its tensors as a kernel takes them; of an absent one a placeholder, which is not read."""
    return [either(x, record[0]) for x in record if not isinstance(x, bool)]


def either(tensor: Tensor | None, placeholder: Tensor) -> Tensor:
    return placeholder if tensor is None else tensor


def _padded(features: int) -> int:
    """The inner dimension of a product must be a power of two, and 16 at least."""
    return max(16, triton.next_power_of_2(features))


def feature_options(first: FirstPass) -> dict[str, int]:
    """Sizes of the features, as the kernels take them at compile time."""
    count = 0 if first.features is None else first.features.shape[-1]
    return {"F": count, "FP": _padded(count) if count else 0}


def settings(x: Tensor, launch: tables.Launch) -> dict[str, Any]:
    """What every launch is given: tile, arithmetic, warps and stages."""
    interpreted = bool(knobs.runtime.interpret)
    precision = "ieee" if interpreted or x.dtype != torch.float32 else "tf32x3"
    return {
        "BM": launch.rows,
        "PRECISION": precision,
        "EMULATE": interpreted,
        "num_warps": launch.warps,
        "num_stages": launch.stages,
    }


def on_device(x: Tensor) -> AbstractContextManager[Any]:
    return torch.cuda.device(x.device) if x.is_cuda else nullcontext()
