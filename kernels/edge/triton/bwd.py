"""One pass of the edge operators layer by layer, on scratch tensors of a chunk of stores.

What backward launches, and forward where the fused kernels do not fit; `fused` puts it together.
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

from causalmmm.kernels.edge.records import Draw, First, Second
from causalmmm.kernels.edge.triton import layer_kernels as device
from causalmmm.kernels.edge.triton import tables


class _Layers:
    """One pass, on scratch tensors of a chunk of stores; collects the gradients of its weights."""

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

    def add_weight(self, name: str, chunk: slice, x: Tensor, y: Tensor) -> None:
        """sums[name] += x.T y [H, G] and sums[name + "/bias"] += column sums of x."""
        launch = required(tables.WEIGHT, x)
        wide = y.shape[1]
        block = min(tables.WEIGHT_BLOCK, self.width), min(tables.WEIGHT_BLOCK, wide)
        tiles = triton.cdiv(self.edges(chunk), launch.rows)
        parts = min(tables.PARTS, tiles)
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
            **settings(x, launch),
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


class FirstLayers(_Layers):
    """e = LN(elu(W2 elu(sender + receiver + Wf f) + b2))."""

    def __init__(self, first: First, features_grad: bool = False) -> None:
        sender, features = first.sender1, first.features
        super().__init__(sender, first.receiver1)
        self.first = first
        self.d_features = sender.new_empty(0)
        if features_grad and features is not None:
            self.d_features = torch.empty_like(features)
        stores = tables.WORKSPACE_BYTES // (4 * self.nodes**2 * self.width * sender.element_size())
        self.step = max(1, min(stores, self.batch))
        edges = self.step * self.nodes**2
        self.room = [sender.new_empty(edges, self.width) for _ in range(4)]
        self.statistics = [sender.new_empty(edges, dtype=torch.float32) for _ in range(2)]

    def chunks(self) -> Iterator[slice]:
        for start in range(0, self.batch, self.step):
            yield slice(start, min(start + self.step, self.batch))

    def state(self, chunk: slice, out: Tensor, grad_out: Tensor | None = None) -> None:
        """e and its statistics; given the gradient of the mean, that below the last elu."""
        self.run(
            device.edge_state_kernel,
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

    def stage(
        self,
        chunk: slice,
        kind: str,
        grad_out: Tensor,
        weight: Tensor,
        value: Tensor,
        grad_in: Tensor,
    ) -> None:
        sender, receiver, _, _, features, wf = pointers(self.first.of(chunk))
        self.run(
            device.edge_stage_kernel,
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
        """From the gradient below the last elu to the pass's inputs; `room[1]` gets overwritten."""
        inner = self.room[1]
        self.stage(chunk, "first", grad_out, self.first.w2, inner, grad_in)
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
            grad_in = grad_in[: self.edges(chunk)] @ wf
            self.d_features[chunk] = grad_in.view(padded[..., :count].shape).transpose(1, 2)

    def gradients(self) -> list[Tensor]:
        d_wf, wf = self.sender.new_empty(0), self.first.wf
        if wf is not None:
            wide = wf.new_zeros(self.width, _padded(wf.shape[1]))
            d_wf = self.total("wf", wide)[:, : wf.shape[1]].contiguous()
        weights = self.total("w2", self.first.w2), self.total("w2/bias", self.first.b2)
        return [self.d_sender, self.d_receiver, *weights, self.d_features, d_wf]


class SecondLayers(_Layers):
    """l = Wo LN(elu(W4 elu(sender + receiver + W3 e) + b4)) + bo."""

    def __init__(self, second: Second, room: list[Tensor]) -> None:
        super().__init__(second.sender2, second.receiver2)
        self.second, self.room = second, room
        self.d_bo = torch.zeros_like(second.bo, dtype=torch.float32)

    def inner(self, chunk: slice, state: Tensor) -> None:
        nodes = self.sender[chunk], self.receiver[chunk]
        inner = self.room[1]
        self.run(
            device.edge_inner_kernel, chunk, *nodes, self.second.w3, state, inner, H=self.width
        )

    def outer(
        self, chunk: slice, tensors: tuple[Tensor, ...], prior_step: int, **options: Any
    ) -> None:
        _, _, _, *weights = self.second
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

    def backward(self, chunk: slice, grad_out: Tensor) -> None:
        """After a backward `outer`: weights, node gradients, and room[3], the inner gradient."""
        state, inner, upper, last = self.room
        types = grad_out.shape[-1]
        padded = upper.new_zeros(*grad_out.shape[:3], 16)
        padded[..., :types] = grad_out.transpose(1, 2)
        self.add_weight("wo", chunk, last, padded.view(-1, 16))
        self.d_bo += grad_out.sum((0, 1, 2))
        self.add_weight("w4", chunk, upper, inner)
        unused = (inner, inner, self.sender, self.receiver, inner, inner)
        self.run(
            device.edge_stage_kernel,
            chunk,
            upper,
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
        wide = second.wo.new_zeros(self.width, 16)
        return [
            self.d_sender,
            self.d_receiver,
            self.total("w3", second.w3),
            self.total("w4", second.w4),
            self.total("w4/bias", second.b4),
            self.total("wo", wide)[:, : len(second.bo)].mT.contiguous(),
            self.d_bo.to(second.bo.dtype),
        ]


def row_for(table: tables.Table, x: Tensor) -> tables.Launch | None:
    """The row of a table for tensors [.., H] of this dtype on this device."""
    size = x.shape[-1], x.element_size()
    return tables.find(table, *size, *_device(x.device)) if x.is_cuda else tables.find(table, *size)


def required(table: tables.Table, x: Tensor) -> tables.Launch:
    row = row_for(table, x)
    assert row is not None, "no row for these sizes: ask `supported` first"
    return row


@functools.cache
def _device(device: torch.device) -> tuple[str, int]:
    """Architecture, and bytes of shared memory that a block may have."""
    index = torch.cuda.current_device() if device.index is None else device.index
    major, minor = torch.cuda.get_device_capability(index)
    limits = triton.runtime.driver.active.utils.get_device_properties(index)
    return f"sm_{major}{minor}", limits["max_shared_mem"]


def pointers(record: First | Draw) -> list[Tensor]:
    """Its tensors for a kernel, which does not read what stands in for an absent one."""
    return [either(x, record[0]) for x in record if not isinstance(x, bool)]


def either(tensor: Tensor | None, placeholder: Tensor) -> Tensor:
    return placeholder if tensor is None else tensor


def _padded(features: int) -> int:
    """The inner dimension of a product must be a power of two, and 16 at least."""
    return max(16, triton.next_power_of_2(features))


def feature_options(first: First) -> dict[str, int]:
    count = 0 if first.features is None else first.features.shape[-1]
    return {"F": count, "FP": _padded(count) if count else 0}


def settings(x: Tensor, launch: tables.Launch) -> dict[str, Any]:
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
