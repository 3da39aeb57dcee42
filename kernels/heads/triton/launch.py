"""Launches of the kernels of pairs' heads. Host code only."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from causalmmm.kernels import launching
from causalmmm.kernels.extension import padded
from causalmmm.kernels.heads.triton import pairs

_PARTS = 512  # partial sums of a gradient, whatever the device: equal inputs give equal bits


def forward(inputs: Sequence[Tensor], outputs: Sequence[Tensor]) -> None:
    """``outputs`` from dense ``inputs``, in the order of the operator."""
    edges = inputs[0]
    stores, nodes, _, _ = edges.shape
    with launching.on_device(edges):
        launching.launch(
            pairs.pair_heads_kernel,
            (stores, nodes),
            *(*inputs, *outputs, nodes),
            **_sizes(*inputs[:2]),
        )


def backward(
    grads: Sequence[Tensor | None], inputs: Sequence[Tensor], gradients: Sequence[Tensor]
) -> Tensor:
    """``gradients`` of sender and receiver; returns those of the weights, one after the other."""
    edges, sender = inputs[:2]
    stores, nodes, _, features = edges.shape
    parts = min(_PARTS, stores)
    sums = edges.new_empty(parts, 3 * features + 1 + nodes * nodes)
    given = dict(zip(("LOG_BF", "INFORMED", "MEAN", "LOG_SD"), grads, strict=True))
    with launching.on_device(edges):
        launching.launch(
            pairs.pair_heads_bwd_kernel,
            (parts,),
            *(edges if grad is None else grad for grad in grads),
            *(*inputs, *gradients, sums, stores, nodes, parts),
            **{f"FROM_{name}": grad is not None for name, grad in given.items()},
            **_sizes(edges, sender),
        )
    return sums.sum(0)


def _sizes(edges: Tensor, sender: Tensor) -> dict[str, int]:
    _, nodes, _, features = edges.shape
    rank, side, wide = sender.shape[-1], padded(nodes), padded(features)
    sizes = {"F": features, "FP": wide, "R": rank, "RP": padded(rank), "NP": side}
    return {**sizes, "tile": side * max(wide, side)}
