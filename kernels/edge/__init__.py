"""Edge operators: all-pairs message passing, and the sampling of each pair's edge type.

The public functions live here, and no arithmetic. `records` lists what they accept, `reference` is
their plain PyTorch form, `ops` registers them with torch and picks what computes.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from causalmmm.kernels.edge import ops
from causalmmm.kernels.edge.philox import edge_noise
from causalmmm.kernels.edge.records import Draw, FirstPass, SecondPass, check, each

__all__ = [
    "EdgeMean",
    "EdgeSample",
    "edge_mean",
    "edge_noise",
    "edge_sample",
    "unsupported_reasons",
]


class EdgeMean(NamedTuple):
    """What :func:`edge_mean` returns.

    mean    [B, N, H], one row per receiver j.
    states  e [B, N, N, H] for :func:`edge_sample`, if they were asked for and there is room.

    >>> import torch
    >>> x = torch.zeros(1, 3, 16)
    >>> edge_mean(x, x, torch.eye(16), torch.zeros(16)).mean.shape
    torch.Size([1, 3, 16])
    """

    mean: Tensor
    states: Tensor | None


class EdgeSample(NamedTuple):
    """What :func:`edge_sample` returns; axis 1 is the sender i, axis 2 the receiver j.

    z       [B, N, N, K]  weights of the edge types, summing to one; z_ii = (1, 0, .., 0).
    logits  [B, N, N, K]  of the posterior; -inf where the prior forbids, 0 on the diagonal.
    kl      [B]           sum over i != j of KL(softmax(logits_ij) || prior_ij).
    """

    z: Tensor
    logits: Tensor
    kl: Tensor


def edge_mean(
    sender: Tensor,
    receiver: Tensor,
    w2: Tensor,
    b2: Tensor,
    *,
    features: Tensor | None = None,
    wf: Tensor | None = None,
    keep_states: bool = False,
) -> EdgeMean:
    """Mean state of the edges that arrive at each node (first all-pairs pass, edge to node).

        e_ij = LN(elu(W2 elu(sender_i + receiver_j + Wf f_ij) + b2)),   mean over i != j

    The first linear layer on [h_i, h_j, f_ij] is factorised: its node parts come in already
    multiplied, the receiver's with the bias. LN is LayerNorm over H without scale and shift
    (eps 1e-5), so fold those into what follows. The step is v->e, e->v of Kipf et al. (2018),
    "Neural relational inference", equations 5-7, which CausalMMM (2024) takes as its encoder.

    Args:
        sender, receiver: [B, N, H], N >= 2, of one floating dtype; the rest is cast to it.
        w2, b2: [H, H] (out, in) and [H].
        features, wf: [B, N, N, F] (sender, receiver) and [H, F]; both or neither. Values on the
            diagonal are ignored. Gradients reach both.
        keep_states: return e as well, for :func:`edge_sample` to read instead of computing it
            again, unless it takes more than ``ops.STATES_BYTES``. Gradients pass through it.

    Returns:
        :class:`EdgeMean`, in the dtype of the inputs.

    Raises:
        ValueError: shapes do not fit together, or N < 2.
    """
    first = FirstPass(sender, receiver, w2, b2, features, wf)
    check("edge_mean", first)
    return EdgeMean(*ops.edge_mean(each(lambda x: x.to(sender.dtype), first), keep_states))


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
    *,
    features: Tensor | None = None,
    wf: Tensor | None = None,
    states: Tensor | None = None,
    temperature: float | Tensor = 1.0,
    seed: int | Tensor | None = None,
    store: Tensor | None = None,
    hard: bool = False,
) -> EdgeSample:
    """Posterior over the type of every edge, a sample of it, and its divergence from the prior.

        e_ij as in :func:`edge_mean` from sender1, receiver1, w2, b2, features, wf
        q_ij = LN(elu(W4 elu(sender2_i + receiver2_j + W3 e_ij) + b4))
        l_ij = log_prior_ij + Wo q_ij + bo
        z_ij = softmax((l_ij + gumbel_ij) / temperature)

    The network's part of a logit is thus the evidence that a store's data add to the prior (a log
    Bayes factor), and the prior may itself be learned: gradients reach ``log_prior``.

    Second all-pairs pass of the encoder with Gumbel-Softmax sampling (Maddison et al. 2017; Jang
    et al. 2017; CausalMMM 2024, section 4.1). Edge type 0 means "no edge".

    Args:
        sender1, receiver1, w2, b2, features, wf: as in :func:`edge_mean`.
        sender2, receiver2: [B, N, H], node parts of the second pass (the receiver's with its bias).
        w3, w4, b4: [H, H], [H, H], [H].
        wo, bo: [K, H] and [K], K >= 2.
        log_prior: [N, N, K] or [B, N, N, K], log probabilities; they need not be normalised (kl is
            then sum q (log q - log_prior), as for a geometric mixture of priors). -inf forbids a
            type: then z is exactly 0 there, and exactly 1 where one type alone is allowed. At
            least one must be. The diagonal is ignored.
        states: e as :func:`edge_mean` kept it, of the same arguments; absent, it is computed again.
            Given, the first pass's arguments get their gradients by way of it.
        temperature: > 0, number or tensor of one element; carries no gradient.
        seed: 64-bit integer, or integer tensor of one element. None: no noise, and z = softmax(l)
            whatever the temperature.
        store: int64 [B], global ids of the stores, 0..B-1 when absent. An edge's noise depends on
            (seed, store, i, j) alone; see :func:`edge_noise`.
        hard: z is one-hot in value and soft in gradient (straight-through).

    Returns:
        :class:`EdgeSample`, in float64 for float64 inputs and in float32 otherwise.

    Raises:
        ValueError: shapes do not fit together, or N < 2 or K < 2.
    """
    device, dtype = sender1.device, sender1.dtype
    out_dtype = torch.float64 if dtype == torch.float64 else torch.float32
    if not isinstance(
        temperature, Tensor
    ):  # filled on the device: a copy would wait, and end a capture
        temperature = torch.full((), temperature, dtype=out_dtype, device=device)
    tau = temperature.detach().to(device, out_dtype).reshape(())
    key = None if seed is None else _as_int64(seed, device)
    store = torch.arange(len(sender1), device=device) if store is None else store
    first = FirstPass(sender1, receiver1, w2, b2, features, wf)
    second = SecondPass(sender2, receiver2, w3, w4, b4, wo, bo)
    draw = Draw(log_prior.to(out_dtype), tau, key, store, hard)
    check("edge_sample", first, second, draw)
    expected = [*sender1.shape[:2], *sender1.shape[1:]]
    if states is not None and list(states.shape) != expected:
        got = list(states.shape)
        raise ValueError(f"edge_sample: states must have shape {expected}, got {got}")
    first, second = each(lambda x: x.to(dtype), first), each(lambda x: x.to(dtype), second)
    return EdgeSample(*ops.edge_sample(first, second, draw, states))


def unsupported_reasons(
    sender: Tensor, *, features: int = 0, types: int = 2
) -> dict[str, list[str]]:
    """Why a faster implementation was refused for such tensors, by its name, fastest first.

    Args:
        sender: a tensor as :func:`edge_mean` takes it; its device, dtype and shape count.
        features, types: F and K.

    Returns:
        Of the implementations "triton", "cpp" and "chunked" those that come before the one that
        computes, each with its reasons; empty where the fastest computes.

    Example:
        >>> unsupported_reasons(torch.zeros(2, 3, 20))["cpp"]
        ['width 20 is not a multiple of 16']
    """
    count = sender.new_empty(*sender.shape[:1], 1, 1, features) if features else None
    wf = sender.new_empty(sender.shape[-1], features) if features else None
    return ops.unsupported_reasons(FirstPass(sender, sender, sender, sender, count, wf), types)


def _as_int64(seed: int | Tensor, device: torch.device) -> Tensor:
    if isinstance(seed, Tensor):
        return seed.to(device, torch.int64).reshape(())
    signed = (seed + (1 << 63)) % (1 << 64) - (1 << 63)
    return torch.full((), signed, dtype=torch.int64, device=device)
