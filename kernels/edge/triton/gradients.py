"""Gradients of one pass's arguments, chunk by chunk: by a fused kernel where one fits, or layers.

Host code only; `launch` says which chunks, and in which order.
"""

from __future__ import annotations

import functools

import torch
import triton
from torch import Tensor

from causalmmm.kernels.edge.records import FirstPass, Kept, SecondPass
from causalmmm.kernels.edge.triton import bwd_kernels, host, layers, tables


class FirstGradients:
    """Of the first pass; `scratch` counts the edge tensors that `add` allocates for a chunk."""

    def __init__(self, first: FirstPass, features_grad: bool) -> None:
        sender, features = first.sender1, first.features
        self.first, self.sums = first, host.Sums()
        self.d_sender, self.d_receiver = torch.empty_like(sender), torch.empty_like(sender)
        self.d_features: Tensor | None = None
        if features_grad and features is not None:
            self.d_features = torch.empty_like(features)
        self.groups = Groups.of("first backward", sender)
        self.scratch = layers.SCRATCH if self.groups is None else 0

    def add(
        self, stores: slice, kept: Kept, grad_mean: Tensor | None, grad_states: Tensor | None
    ) -> None:
        """Of a chunk: to what it has kept (or computed again) and the gradients of e's mean and of
        e belong those of its nodes and features, and a share of those of weights."""
        first = self.first.of(stores)
        d_features = None if self.d_features is None else self.d_features[stores]
        d_nodes = self.d_sender[stores], self.d_receiver[stores]
        if self.groups is None:
            grads = grad_mean, grad_states
            layers.first_backward(first, kept, grads, d_features, d_nodes, self.sums)
            return
        sender, options = first.sender1, host.feature_options(first)
        batch, _, width = sender.shape
        parts, groups = self.groups.parts(batch)
        w2, b2 = _partial(sender, parts, width, width), _partial(sender, parts, width)
        wf = _partial(sender, parts, width, options["FP"])
        if batch == 0:
            return
        sender1, receiver1, w2_, _, features, wf_ = host.pointers(first)
        bwd_kernels.edge_first_bwd_kernel[(parts,)](
            self.groups.ends(sender),
            *kept,
            sender1,
            receiver1,
            w2_,
            features,
            wf_,
            host.either(grad_mean, sender),
            host.either(grad_states, sender),
            *d_nodes,
            host.either(d_features, sender),
            w2,
            b2,
            wf,
            batch,
            self.groups.stores,
            groups,
            width,
            **self.groups.sizes(),
            **options,
            FROM_MEAN=grad_mean is not None,
            FROM_STATES=grad_states is not None,
            FEATURES_GRAD=d_features is not None,
            **host.settings(sender, self.groups.launch),
        )
        for name, partial in (("w2", w2), ("w2/bias", b2), ("wf", wf)):
            self.sums.add(name, partial.sum(0))

    def all(self) -> list[Tensor]:
        """In the order of `FirstPass`; empty where there is none."""
        first, sums = self.first, self.sums
        d_wf, d_features = (first.sender1.new_empty(0) for _ in range(2))
        if first.wf is not None:
            count = first.wf.shape[1]
            wide = first.wf.new_zeros(first.wf.shape[0], host.padded(count))
            d_wf = sums.get("wf", wide)[:, :count].contiguous()
        if self.d_features is not None:
            d_features = self.d_features
        weights = sums.get("w2", first.w2), sums.get("w2/bias", first.b2)
        return [self.d_sender, self.d_receiver, *weights, d_features, d_wf]


class SecondGradients:
    """Of the second pass; `scratch` as for the first."""

    def __init__(self, second: SecondPass) -> None:
        self.second, self.sums = second, host.Sums()
        sender = second.sender2
        self.d_sender, self.d_receiver = torch.empty_like(sender), torch.empty_like(sender)
        self.groups = Groups.of("second backward", sender)
        self.scratch = layers.SCRATCH if self.groups is None else 0

    def add(self, stores: slice, states: Tensor, d_logits: Tensor, d_states: Tensor) -> None:
        """Of a chunk: from e and the gradient of the logits to that of e (`d_states`) and of its
        nodes, and a share of those of weights."""
        second = self.second.of(stores)
        d_nodes = self.d_sender[stores], self.d_receiver[stores]
        if self.groups is None:
            layers.second_backward(second, states, d_logits, d_states, d_nodes, self.sums)
            return
        sender = second.sender2
        batch, _, width = sender.shape
        parts, groups = self.groups.parts(batch)
        w3, w4 = (_partial(sender, parts, width, width) for _ in range(2))
        b4, wo = _partial(sender, parts, width), _partial(sender, parts, 16, width)
        if batch == 0:
            return
        bwd_kernels.edge_second_bwd_kernel[(parts,)](
            self.groups.ends(sender),
            states,
            *second[:-1],
            d_logits,
            d_states,
            *d_nodes,
            w3,
            w4,
            b4,
            wo,
            batch,
            self.groups.stores,
            groups,
            width,
            **self.groups.sizes(),
            K=len(second.bo),
            **host.settings(sender, self.groups.launch),
        )
        for name, partial in (("w3", w3), ("w4", w4), ("w4/bias", b4), ("wo", wo.mT)):
            self.sums.add(name, partial.sum(0))

    def all(self) -> list[Tensor]:
        """In the order of `SecondPass`."""
        second, sums = self.second, self.sums
        types, width = second.wo.shape
        wide = second.wo.new_zeros(width, 16)
        return [
            self.d_sender,
            self.d_receiver,
            sums.get("w3", second.w3),
            sums.get("w4", second.w4),
            sums.get("w4/bias", second.b4),
            sums.get("wo", wide)[:, :types].mT.contiguous(),
            sums.get("bo", second.bo),
        ]


class Groups:
    """How the fused backward kernels cut a batch: groups of whole stores, and parts of groups."""

    def __init__(self, launch: tables.Launch, nodes: int) -> None:
        self.launch, self.nodes = launch, nodes
        self.padded, self.stores = best_group(nodes, launch.rows)

    @staticmethod
    def of(kernel: str, x: Tensor) -> Groups | None:
        """For x [B, N, H]; None where the kernel has no launch for it, or a store does not fit."""
        launch = host.row_for(kernel, x)
        nodes = x.shape[1]
        return Groups(launch, nodes) if launch and nodes <= tables.MAX_GROUP_NODES else None

    def parts(self, batch: int) -> tuple[int, int]:
        """Number of parts, and of groups that each takes: of sizes alone, for sums to be equal."""
        groups = triton.cdiv(batch, self.stores)
        each = max(1, triton.cdiv(groups, tables.PARTS))
        return triton.cdiv(groups, each), each

    def sizes(self) -> dict[str, int]:
        return {"N": self.nodes, "NP": self.padded}

    def ends(self, like: Tensor) -> Tensor:
        """[G N N, 2 NP]: ones where an edge has its sender, and its receiver; see `bwd_kernels`."""
        return _ends(self.stores, self.nodes, self.padded, like.device, like.dtype)


@functools.cache
def _ends(stores: int, nodes: int, padded: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    """Depends on sizes alone, and would take 20 launches of every update."""
    edge = torch.arange(stores * nodes**2, device=device)[:, None]
    node = torch.arange(padded, device=device)
    sender = edge // nodes  # of the group
    receiver = sender - sender % nodes + edge % nodes
    ends = torch.cat([sender == node, receiver == node], 1) & (sender != receiver)
    return ends.to(dtype)


def best_group(nodes: int, rows: int) -> tuple[int, int]:
    """Padded nodes and stores of a group: the fewest whose edges fill 85 % of its tiles of `rows`,
    or those that fill them best."""

    def filled(size: int) -> float:
        edges = size // nodes * nodes**2
        return edges / (triton.cdiv(edges, rows) * rows)

    sizes = [size for size in (16, 32, 64) if size >= nodes]
    good = [size for size in sizes if filled(size) >= 0.85]
    size = good[0] if good else max(sizes, key=filled)
    return size, size // nodes


def _partial(like: Tensor, *shape: int) -> Tensor:
    return like.new_empty(shape, dtype=torch.float32)
