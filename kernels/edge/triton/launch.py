"""The edge operators through Triton: fused passes over tiles, and layer by layer where they must.

Host code only. Imported when CUDA tensors arrive, or under Triton's interpreter. No atomics, and
every sum in a fixed order: equal inputs give equal bits.
"""

from __future__ import annotations

import torch
import triton
from torch import Tensor

from causalmmm.kernels.edge.records import Draw, FirstPass, Kept, SecondPass, each
from causalmmm.kernels.edge.triton import (
    draw_kernels,
    fwd_kernels,
    host,
    layers,
    tables,
)
from causalmmm.kernels.edge.triton.gradients import FirstGradients, SecondGradients
from causalmmm.kernels.launching import on_device

DTYPES = (torch.float32, torch.bfloat16, torch.float16)
_DRAW_ROWS = 256  # edges of a program of the elementwise kernels


def unsupported_reasons(first: FirstPass, types: int) -> list[str]:
    """Why the kernels do not cover these sizes and this dtype; empty where they do."""
    sender, features = first.sender1, first.features
    _, nodes, width = sender.shape
    count = 1 if features is None else features.shape[-1]
    reasons = {
        f"dtype {sender.dtype} is not float32, bfloat16 or float16": sender.dtype not in DTYPES,
        f"no launch for width {width} on this device": any(
            host.row_for(kernel, sender) is None for kernel in layers.KERNELS
        ),
        f"{nodes} nodes are more than {tables.MAX_NODES}": nodes > tables.MAX_NODES,
        f"{types} edge types are more than {tables.MAX_TYPES}": types > tables.MAX_TYPES,
        f"{count} features are not 1 to {tables.MAX_FEATURES}": (
            not 0 < count <= tables.MAX_FEATURES
        ),
    }
    return [reason for reason, applies in reasons.items() if applies]


def edge_mean(first: FirstPass, keep: bool) -> tuple[Tensor, Kept]:
    """As :func:`causalmmm.kernels.edge.reference.edge_mean`; e and its moments are written only if
    they are to be kept."""
    first = each(Tensor.contiguous, first)
    sender = first.sender1
    mean = torch.empty_like(sender)
    kept = Kept.empty(sender) if keep else None
    if kept is not None:
        for tensor in kept:
            tensor.diagonal(dim1=1, dim2=2).zero_()
    with on_device(sender):
        if host.row_for("mean", sender) is not None:
            _mean(first, mean, kept)
        else:
            for chunk in host.chunks(sender, 0 if keep else 1):
                piece = Kept.empty(sender[chunk]) if kept is None else kept.of(chunk)
                layers.states(first.of(chunk), *piece)
                layers.mean(piece.states, mean[chunk])
    return mean, kept or Kept.nothing(sender)


def edge_mean_backward(
    grad_mean: Tensor | None,
    grad_states: Tensor | None,
    kept: Kept | None,
    first: FirstPass,
    features_grad: bool,
) -> list[Tensor]:
    """Gradients of the arguments, in their order (empty where there is none)."""
    first = each(Tensor.contiguous, first)
    gradients = FirstGradients(first, features_grad)
    grads = [None if x is None else x.contiguous() for x in (grad_mean, grad_states)]
    with on_device(first.sender1):
        for chunk in host.chunks(first.sender1, gradients.scratch + (kept is None)):
            piece = _computed(first.of(chunk)) if kept is None else kept.of(chunk)
            of_mean, of_states = (None if x is None else x[chunk] for x in grads)
            gradients.add(chunk, piece, of_mean, of_states)
    return gradients.all()


def edge_sample(
    first: FirstPass, second: SecondPass, draw: Draw, states: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    """As :func:`causalmmm.kernels.edge.reference.edge_sample`, from e where it was kept."""
    first, second = each(Tensor.contiguous, first), each(Tensor.contiguous, second)
    draw = each(Tensor.contiguous, draw)
    sender, prior = first.sender1, draw.log_prior
    batch, nodes, _ = sender.shape
    z = prior.new_empty(batch, nodes, nodes, len(second.bo))
    logits, kl = torch.empty_like(z), prior.new_empty(batch, nodes * nodes)
    with on_device(sender):
        if host.row_for("logits, kept" if states is not None else "logits", sender) is not None:
            _logits(first, second, states, logits)
        else:
            for chunk in host.chunks(sender, 2):
                edges = _computed(first.of(chunk)).states if states is None else states[chunk]
                layers.logits(second.of(chunk), edges.contiguous(), logits[chunk])
        if batch:
            draw_kernels.edge_draw_fwd_kernel[(triton.cdiv(kl.numel(), _DRAW_ROWS),)](
                logits,
                *host.pointers(draw),
                z,
                kl,
                kl.numel(),
                nodes,
                nodes * nodes if prior.ndim == 4 else 0,
                NOISE=draw.seed is not None,
                HARD=draw.hard,
                BM=_DRAW_ROWS,
                **host.type_options(len(second.bo)),
            )
    return z, logits, kl.sum(1)


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
    """Gradients of the first pass's arguments, of `states` if they were given (else those are
    empty, or this is), of the second pass's arguments and of log_prior."""
    first, second = each(Tensor.contiguous, first), each(Tensor.contiguous, second)
    gradients = FirstGradients(first, features_grad)
    d_second = SecondGradients(second)
    sender = first.sender1
    d_states = sender.new_empty(0)
    with on_device(sender):
        draw = each(Tensor.contiguous, draw)
        d_logits, d_prior = _draw_backward(grads, outputs, draw, prior_grad)
        if states is not None:
            states = states.contiguous()
            d_states = torch.empty_like(states)
            for chunk in host.chunks(sender, d_second.scratch):
                d_second.add(chunk, states[chunk], d_logits[chunk], d_states[chunk])
        else:
            for chunk in host.chunks(sender, 2 + max(d_second.scratch, gradients.scratch)):
                piece = _computed(first.of(chunk))
                d_piece = torch.empty_like(piece.states)
                d_second.add(chunk, piece.states, d_logits[chunk], d_piece)
                gradients.add(chunk, piece, None, d_piece)
    d_second.sums.add("bo", d_logits.sum((0, 1, 2)))
    d_first = gradients.all() if states is None else [sender.new_empty(0) for _ in first]
    return [*d_first, d_states, *d_second.all(), d_prior]


def _mean(first: FirstPass, mean: Tensor, kept: Kept | None) -> None:
    """Mean over senders of e by the fused kernel; e and its moments too, where there is room."""
    sender = first.sender1
    batch, nodes, width = sender.shape
    launch = host.required("mean", sender)
    if batch == 0:
        return
    fwd_kernels.edge_mean_fwd_kernel[(triton.cdiv(batch * nodes, launch.rows),)](
        *host.pointers(first),
        mean,
        *((mean, mean) if kept is None else kept),
        batch * nodes,
        nodes,
        width,
        KEEP=kept is not None,
        **host.feature_options(first),
        **host.settings(sender, launch),
    )


def _computed(first: FirstPass) -> Kept:
    """e and its moments, again, of a chunk to which `first` is cut."""
    kept = Kept.empty(first.sender1)
    if host.row_for("mean", first.sender1) is None:
        layers.states(first, *kept)
        return kept
    for tensor in kept:
        tensor.diagonal(dim1=1, dim2=2).zero_()
    _mean(first, torch.empty_like(first.sender1), kept)
    return kept


def _logits(first: FirstPass, second: SecondPass, states: Tensor | None, logits: Tensor) -> None:
    """The network's logits by the fused kernel."""
    sender = first.sender1
    batch, nodes, width = sender.shape
    launch = host.required("logits, kept" if states is not None else "logits", sender)
    if batch == 0:
        return
    fwd_kernels.edge_logits_fwd_kernel[(triton.cdiv(batch * nodes, launch.rows),)](
        sender if states is None else states.contiguous(),
        *host.pointers(first),
        *second,
        logits,
        batch * nodes,
        nodes,
        width,
        KEPT=states is not None,
        **host.feature_options(first),
        **host.type_options(len(second.bo)),
        **host.settings(sender, launch),
    )


def _draw_backward(
    grads: tuple[Tensor | None, Tensor | None, Tensor | None],
    outputs: tuple[Tensor, Tensor],
    draw: Draw,
    prior_grad: bool,
) -> tuple[Tensor, Tensor]:
    """Gradient of the network's logits, and that of `log_prior` in its shape (empty if not needed).

    `grads` are those of z, logits and kl; `outputs` are z and logits.
    """
    z, logits = outputs
    prior, nodes, types = draw.log_prior, z.shape[1], z.shape[-1]
    d_logits = torch.empty_like(z)
    d_prior = torch.empty_like(z) if prior_grad else prior.new_empty(0)
    edges = z.numel() // types
    if edges:
        draw_kernels.edge_draw_bwd_kernel[(triton.cdiv(edges, _DRAW_ROWS),)](
            *(z if x is None else x.contiguous() for x in grads),
            z,
            logits,
            *host.pointers(draw),
            d_logits,
            d_prior,
            edges,
            nodes,
            nodes * nodes if prior.ndim == 4 else 0,
            NOISE=draw.seed is not None,
            HARD=draw.hard,
            FROM_Z=grads[0] is not None,
            FROM_LOGITS=grads[1] is not None,
            FROM_KL=grads[2] is not None,
            PRIOR_GRAD=prior_grad,
            BM=_DRAW_ROWS,
            **host.type_options(types),
        )
    return d_logits, d_prior.sum(0) if prior_grad and prior.ndim == 3 else d_prior
