"""One all-pairs pass layer by layer, forward and backward, for one chunk of stores.

Host code that launches `layer_kernels`, for widths whose weights or sums of gradients the fused
kernels cannot hold; `launch` decides, and puts the passes together. Edge tensors are [b, N, N, H]
(store, sender, receiver).
"""

from __future__ import annotations

from typing import Any

import torch
import triton
from torch import Tensor

from causalmmm.kernels.edge.records import FirstPass, SecondPass
from causalmmm.kernels.edge.triton import host, layer_kernels, tables

KERNELS = (
    *("state", "inner", "outer", "outer backward", "norm backward", "weight"),
    *("layer backward, inner", "layer backward, states", "layer backward, first"),
)
SCRATCH = 3  # edge tensors that a backward pass needs beside e and its gradient


def states(first: FirstPass, states: Tensor, moments: Tensor) -> None:
    """e and its moments."""
    options = {**host.feature_options(first), "H": states.shape[-1]}
    arguments = *host.pointers(first), states, moments
    _run("state", layer_kernels.edge_state_kernel, states, *arguments, **options)


def mean(states: Tensor, out: Tensor) -> None:
    """Mean over senders of e, whose self pairs are overwritten."""
    states.diagonal(dim1=1, dim2=2).zero_()
    torch.div(states.sum(1), states.shape[1] - 1, out=out)


def logits(second: SecondPass, states: Tensor, out: Tensor) -> None:
    """The network's logits [b, N, N, K], from e."""
    width, inner = states.shape[-1], torch.empty_like(states)
    _inner(second, states, inner)
    _run(
        "outer",
        layer_kernels.edge_outer_fwd_kernel,
        states,
        inner,
        second.w4,
        second.b4,
        second.wo,
        second.bo,
        out,
        H=width,
        **host.type_options(len(second.bo)),
    )


def second_backward(
    second: SecondPass,
    states: Tensor,
    d_logits: Tensor,
    d_states: Tensor,
    d_nodes: tuple[Tensor, Tensor],
    sums: host.Sums,
) -> None:
    """From the gradient of the logits to those of e, of sender and receiver, and of weights."""
    width, types = states.shape[-1], len(second.bo)
    inner, grad, last = (torch.empty_like(states) for _ in range(SCRATCH))
    _inner(second, states, inner)
    _run(
        "outer backward",
        layer_kernels.edge_outer_bwd_kernel,
        states,
        inner,
        second.w4,
        second.b4,
        second.wo,
        d_logits,
        grad,
        last,
        H=width,
        K=types,
    )
    padded = grad.new_zeros(*d_logits.shape[:3], 16)
    padded[..., :types] = d_logits
    _add_weight(sums, "wo", last, padded)  # [H, 16], of which K columns count
    _add_weight(sums, "w4", grad, inner)
    _layer(grad, second.w4, inner, last, "inner")
    _add_weight(sums, "w3", last, states)
    _add_nodes(last, d_nodes)
    _layer(last, second.w3, states, d_states, "states")


def first_backward(
    first: FirstPass,
    kept: tuple[Tensor, Tensor],
    grads: tuple[Tensor | None, Tensor | None],
    d_features: Tensor | None,
    d_nodes: tuple[Tensor, Tensor],
    sums: host.Sums,
) -> None:
    """From the gradients of e's mean and of e, given e and its moments, to all others."""
    states, moments = kept
    grad, inner, d_inner = (torch.empty_like(states) for _ in range(SCRATCH))
    grad_mean, grad_states = grads
    _run(
        "norm backward",
        layer_kernels.edge_norm_bwd_kernel,
        states,
        states,
        moments,
        host.either(grad_mean, states),
        host.either(grad_states, states),
        grad,
        H=states.shape[-1],
        FROM_MEAN=grad_mean is not None,
        FROM_STATES=grad_states is not None,
    )
    _layer(grad, first.w2, inner, d_inner, "first", first)
    _add_weight(sums, "w2", grad, inner)
    _add_nodes(d_inner, d_nodes)
    features, wf = first.features, first.wf
    if features is None or wf is None:
        return
    count = features.shape[-1]
    padded = d_inner.new_zeros(*features.shape[:3], host.padded(count))
    padded[..., :count] = features
    padded.diagonal(dim1=1, dim2=2).zero_()
    _add_weight(sums, "wf", d_inner, padded)
    if d_features is not None:
        torch.matmul(d_inner, wf, out=d_features)


def _inner(second: SecondPass, states: Tensor, out: Tensor) -> None:
    """First layer of the second pass, elu(sender + receiver + W3 e)."""
    arguments = second.sender2, second.receiver2, second.w3, states, out
    _run("inner", layer_kernels.edge_inner_fwd_kernel, states, *arguments, H=states.shape[-1])


def _layer(
    grad_out: Tensor,
    weight: Tensor,
    value: Tensor,
    grad_in: Tensor,
    kind: str,
    first: FirstPass | None = None,
) -> None:
    """See `edge_layer_bwd_kernel`; `first` for the kind of that name."""
    unused = (grad_out,) * 4
    options = {"F": 0, "FP": 0}
    if first is not None:
        sender, receiver, _, _, features, wf = host.pointers(first)
        unused, options = (sender, receiver, features, wf), host.feature_options(first)
    _run(
        f"layer backward, {kind}",
        layer_kernels.edge_layer_bwd_kernel,
        grad_out,
        grad_out,
        weight,
        value,
        *unused,
        grad_in,
        H=grad_out.shape[-1],
        KIND=kind,
        **options,
    )


def _run(name: str, kernel: Any, edges_like: Tensor, *arguments: Any, **options: Any) -> None:
    """Launch a kernel whose tiles are edges of the chunk."""
    launch = host.required(name, edges_like)
    nodes, width = edges_like.shape[2:]
    edges = edges_like.numel() // width
    if "BK" in kernel.arg_names:
        options["BK"] = launch.depth or width
    kernel[(triton.cdiv(edges, launch.rows),)](
        *arguments, edges, nodes, **options, **host.settings(edges_like, launch)
    )


def _add_weight(sums: host.Sums, name: str, grad: Tensor, value: Tensor) -> None:
    """sums[name] += grad.T value [H, G] and sums[name + "/bias"] += column sums of grad [H]."""
    launch = host.required("weight", grad)
    width, columns = grad.shape[-1], value.shape[-1]
    edges = grad.numel() // width
    block = min(tables.WEIGHT_BLOCK, width), min(tables.WEIGHT_BLOCK, columns)
    tiles = triton.cdiv(edges, launch.rows)
    parts = min(tables.LAYER_PARTS, tiles)
    weight_sums = grad.new_empty(parts, width, columns, dtype=torch.float32)
    bias_sums = grad.new_empty(parts, width, dtype=torch.float32)
    layer_kernels.edge_weight_bwd_kernel[(parts, width // block[0], columns // block[1])](
        grad,
        value,
        weight_sums,
        bias_sums,
        edges,
        triton.cdiv(tiles, parts),
        width,
        columns,
        *block,
        **host.settings(grad, launch),
    )
    sums.add(name, weight_sums.sum(0))
    sums.add(f"{name}/bias", bias_sums.sum(0))


def _add_nodes(grad: Tensor, d_nodes: tuple[Tensor, Tensor]) -> None:
    """Gradients of senders and receivers: sums over receivers and over senders."""
    d_sender, d_receiver = d_nodes
    torch.sum(grad, 2, out=d_sender)
    torch.sum(grad, 1, out=d_receiver)
