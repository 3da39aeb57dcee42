"""Device code of the edge operators in Triton; `fused` launches it.

Node tensors [B, N, H] are read as rows (store, node); edge scratch tensors [Q, H] as rows (store,
receiver, sender), self pairs included. Public edge tensors are [B, sender, receiver, ..]. Names:
`p_` pointers, `b_` tiles. Sums are float32; operands of matrix products have the inputs' dtype.
"""

# mypy: disable-error-code="no-untyped-def"
from __future__ import annotations

import triton
import triton.language as tl

EPS = tl.constexpr(1e-5)


@triton.jit
def mma(a, b, DTYPE: tl.constexpr, PRECISION: tl.constexpr, EMULATE: tl.constexpr):
    """a @ b in float32. The interpreter cannot multiply bfloat16: there rounded values widen."""
    a, b = a.to(DTYPE), b.to(DTYPE)
    if EMULATE:
        a, b = a.to(tl.float32), b.to(tl.float32)
    return tl.dot(a, b, input_precision=PRECISION)


@triton.jit
def elu(x):
    return tl.maximum(x, tl.exp(tl.minimum(x, 0.0)) - 1.0)


@triton.jit
def elu_slope(value):
    return tl.minimum(value, 0.0) + 1.0


@triton.jit
def normalise(x, H: tl.constexpr):
    mean = tl.sum(x, 1) / H
    centred = x - mean[:, None]
    rstd = 1.0 / tl.sqrt(tl.sum(centred * centred, 1) / H + EPS)
    return centred * rstd[:, None], mean, rstd


@triton.jit
def normalise_backward(grad, state, rstd, H: tl.constexpr):
    shift = tl.sum(grad, 1) / H
    tilt = tl.sum(grad * state, 1) / H
    return (grad - shift[:, None] - state * tilt[:, None]) * rstd[:, None]


@triton.jit
def load_rows(p_x, rows, mask, H: tl.constexpr):
    """[rows, H] in float32."""
    columns = tl.arange(0, H)
    return tl.load(p_x + rows[:, None] * H + columns, mask=mask[:, None], other=0.0).to(tl.float32)


@triton.jit
def store_rows(p_x, rows, mask, value, H: tl.constexpr):
    columns = tl.arange(0, H)
    tl.store(p_x + rows[:, None] * H + columns, value.to(p_x.dtype.element_ty), mask=mask[:, None])


@triton.jit
def load_transposed(p_w, H: tl.constexpr, G: tl.constexpr, COLUMNS: tl.constexpr):
    """W.T [G padded, H] of a weight [H, columns]; zeros in the padding."""
    g, h = tl.arange(0, G), tl.arange(0, H)
    return tl.load(p_w + h[None, :] * COLUMNS + g[:, None], mask=g[:, None] < COLUMNS, other=0.0)


@triton.jit
def load_weight(p_w, H: tl.constexpr):
    h = tl.arange(0, H)
    return tl.load(p_w + h[:, None] * H + h[None, :])


@triton.jit
def add_features(
    b_x,
    p_features,
    rows,
    mask,
    b_wft,
    F: tl.constexpr,
    FP: tl.constexpr,
    DTYPE: tl.constexpr,
    PRECISION: tl.constexpr,
    EMULATE: tl.constexpr,
):
    """x + f Wf.T with f [rows, F] taken from the given edge rows; 0 where `mask` is false."""
    column = tl.arange(0, FP)
    inside = mask[:, None] & (column < F)[None, :]
    b_f = tl.load(p_features + rows[:, None] * F + column, mask=inside, other=0.0)
    return b_x + mma(b_f, b_wft, DTYPE, PRECISION, EMULATE)


@triton.jit
def sample_edge(
    b_scores,
    b_prior,
    seed,
    store,
    pair,
    temperature,
    KP: tl.constexpr,
    NOISE: tl.constexpr,
    HARD: tl.constexpr,
):
    """z, logits [rows, KP] and KL [rows] from scores and log prior; types beyond K hold -inf."""
    kind = tl.arange(0, KP)[None, :]
    allowed = b_prior > -float("inf")
    b_prior = tl.where(allowed, b_prior, 0.0)
    b_logits = tl.where(allowed, b_scores + b_prior, -float("inf"))
    shifted = b_logits - tl.max(b_logits, 1)[:, None]
    weight = tl.exp(shifted)
    total = tl.sum(weight, 1)[:, None]
    b_q = weight / total
    log_q = tl.where(allowed, shifted, 0.0) - tl.log(total)
    b_kl = tl.sum(tl.where(allowed, b_q * (log_q - b_prior), 0.0), 1)
    b_z = b_q
    if NOISE:
        low = (store & 0xFFFFFFFF).to(tl.uint32)
        high = ((store >> 32) & 0xFFFFFFFF).to(tl.uint32)
        first, second, third, fourth = tl.philox(seed, low, high, pair, pair * 0)
        word = tl.where(kind == 0, first[:, None], second[:, None])
        if KP > 2:
            word = tl.where(kind == 2, third[:, None], word)
            word = tl.where(kind == 3, fourth[:, None], word)
        uniform = ((word >> 9).to(tl.float32) + 0.5) * 1.1920928955078125e-07
        shown = (b_logits - tl.log(-tl.log(uniform))) / temperature
        weight = tl.exp(shown - tl.max(shown, 1)[:, None])
        b_z = weight / tl.sum(weight, 1)[:, None]
    if HARD:
        best = tl.min(tl.where(b_z == tl.max(b_z, 1)[:, None], kind, KP), 1)
        b_z = (kind == best[:, None]).to(tl.float32)
    return b_z, b_logits, b_kl


@triton.jit
def project(b_y, p_wo, p_bo, H: tl.constexpr, K: tl.constexpr, KP: tl.constexpr):
    """Scores [rows, KP] = y Wo.T + bo, row sums instead of a matrix product this narrow."""
    kind, h = tl.arange(0, KP)[None, :], tl.arange(0, H)
    b_scores = tl.zeros((b_y.shape[0], KP), tl.float32)
    for k in tl.static_range(KP):
        if k < K:
            b_w = tl.load(p_wo + k * H + h).to(tl.float32)
            score = tl.sum(b_y * b_w[None, :], 1) + tl.load(p_bo + k).to(tl.float32)
            b_scores = tl.where(kind == k, score[:, None], b_scores)
    return b_scores


@triton.jit(do_not_specialize=["rows", "nodes"])
def edge_mean_fwd_kernel(
    p_sender,
    p_receiver,
    p_w2,
    p_b2,
    p_features,
    p_wf,
    p_out,
    rows,
    nodes,
    H: tl.constexpr,
    F: tl.constexpr,
    FP: tl.constexpr,
    BM: tl.constexpr,
    PRECISION: tl.constexpr,
    EMULATE: tl.constexpr,
):
    """Rows are receivers (store, node). Step d meets each with the sender d places further on."""
    DTYPE: tl.constexpr = p_sender.dtype.element_ty
    base = tl.program_id(0) * BM
    row = tl.arange(0, BM)
    mask = base + row < rows
    receiver = (base + row) % nodes
    own = base.to(tl.int64) * H
    b_r = load_rows(p_receiver + own, row, mask, H)
    b_w2t = load_transposed(p_w2, H, H, H)
    b_b2 = tl.load(p_b2 + tl.arange(0, H)).to(tl.float32)[None, :]
    if FP > 0:
        b_wft = load_transposed(p_wf, H, FP, F)
    edges = p_features + base.to(tl.int64) * nodes * F
    b_sum = tl.zeros((BM, H), tl.float32)
    for step in range(1, nodes):
        shift = tl.where(receiver + step < nodes, step, step - nodes)
        b_x = b_r + load_rows(p_sender + own, row + shift, mask, H)
        if FP > 0:
            edge = (row + shift) * nodes + receiver  # in [B, sender, receiver], from row `base`
            b_x = add_features(b_x, edges, edge, mask, b_wft, F, FP, DTYPE, PRECISION, EMULATE)
        b_x = elu(mma(elu(b_x), b_w2t, DTYPE, PRECISION, EMULATE) + b_b2)
        b_e, _, _ = normalise(b_x, H)
        b_sum += b_e
    store_rows(p_out + own, row, mask, b_sum / (nodes - 1), H)


@triton.jit(do_not_specialize=["rows", "nodes", "prior_step"])
def edge_sample_fwd_kernel(
    p_sender1,
    p_receiver1,
    p_w2,
    p_b2,
    p_features,
    p_wf,
    p_sender2,
    p_receiver2,
    p_w3,
    p_w4,
    p_b4,
    p_wo,
    p_bo,
    p_prior,
    p_temperature,
    p_seed,
    p_store,
    p_z,
    p_logits,
    p_kl,
    rows,
    nodes,
    prior_step,
    H: tl.constexpr,
    F: tl.constexpr,
    FP: tl.constexpr,
    K: tl.constexpr,
    KP: tl.constexpr,
    BM: tl.constexpr,
    NOISE: tl.constexpr,
    HARD: tl.constexpr,
    PRECISION: tl.constexpr,
    EMULATE: tl.constexpr,
):
    """As `edge_mean_fwd_kernel`, then the second pass and the sample; KL is summed per receiver."""
    DTYPE: tl.constexpr = p_sender1.dtype.element_ty
    base = tl.program_id(0) * BM
    row = tl.arange(0, BM)
    mask = base + row < rows
    receiver = (base + row) % nodes
    own = base.to(tl.int64) * H
    edge_base = base.to(tl.int64) * nodes
    b_w2t, b_w3t = load_transposed(p_w2, H, H, H), load_transposed(p_w3, H, H, H)
    b_w4t = load_transposed(p_w4, H, H, H)
    h = tl.arange(0, H)
    b_b2 = tl.load(p_b2 + h).to(tl.float32)[None, :]
    b_b4 = tl.load(p_b4 + h).to(tl.float32)[None, :]
    if FP > 0:
        b_wft = load_transposed(p_wf, H, FP, F)
    temperature = tl.load(p_temperature)
    kind = tl.arange(0, KP)[None, :]
    store_row = (base + row) // nodes
    seed, store = 0, store_row
    if NOISE:
        seed = tl.load(p_seed)
        store = tl.load(p_store + store_row, mask=mask, other=0)
    b_total = tl.zeros((BM,), tl.float32)
    for step in range(1, nodes):
        shift = tl.where(receiver + step < nodes, step, step - nodes)
        edge = (row + shift) * nodes + receiver
        b_x = load_rows(p_receiver1 + own, row, mask, H)
        b_x += load_rows(p_sender1 + own, row + shift, mask, H)
        if FP > 0:
            b_x = add_features(
                b_x,
                p_features + edge_base * F,
                edge,
                mask,
                b_wft,
                F,
                FP,
                DTYPE,
                PRECISION,
                EMULATE,
            )
        b_x = elu(mma(elu(b_x), b_w2t, DTYPE, PRECISION, EMULATE) + b_b2)
        b_e, _, _ = normalise(b_x, H)
        b_x = mma(b_e, b_w3t, DTYPE, PRECISION, EMULATE)
        b_x += load_rows(p_receiver2 + own, row, mask, H)
        b_x += load_rows(p_sender2 + own, row + shift, mask, H)
        b_x = elu(mma(elu(b_x), b_w4t, DTYPE, PRECISION, EMULATE) + b_b4)
        b_y, _, _ = normalise(b_x, H)
        b_scores = project(b_y, p_wo, p_bo, H, K, KP)
        inside = mask[:, None] & (kind < K)
        in_prior = store_row.to(tl.int64) * prior_step + (receiver + shift) * nodes + receiver
        b_prior = tl.load(p_prior + in_prior[:, None] * K + kind, mask=inside, other=-float("inf"))
        b_prior = tl.where(mask[:, None] | (kind > 0), b_prior, 0.0)
        b_z, b_logits, b_kl = sample_edge(
            b_scores,
            b_prior,
            seed,
            store,
            ((receiver + shift) << 16) + receiver,
            temperature,
            KP,
            NOISE,
            HARD,
        )
        b_total += b_kl
        out = edge[:, None] * K + kind
        tl.store(p_z + edge_base * K + out, b_z, mask=inside)
        tl.store(p_logits + edge_base * K + out, b_logits, mask=inside)
    tl.store(p_kl + base + row, b_total, mask=mask)


@triton.jit
def edge_rows(base, edges, nodes, BM: tl.constexpr):
    """Scratch rows of a tile: row, mask, and the node rows of receiver and sender in the chunk."""
    row = base + tl.arange(0, BM)
    mask = row < edges
    node = row // nodes
    sender = node - node % nodes + row % nodes
    return row, mask, node, sender


@triton.jit
def first_inner(
    p_sender,
    p_receiver,
    p_features,
    p_wf,
    node,
    sender,
    mask,
    nodes,
    H: tl.constexpr,
    F: tl.constexpr,
    FP: tl.constexpr,
    DTYPE: tl.constexpr,
    PRECISION: tl.constexpr,
    EMULATE: tl.constexpr,
):
    """elu(sender + receiver + Wf f) of the first pass, recomputed for scratch rows."""
    b_x = load_rows(p_receiver, node, mask, H) + load_rows(p_sender, sender, mask, H)
    if FP > 0:
        b_wft = load_transposed(p_wf, H, FP, F)
        other = mask & (node != sender)
        b_x = add_features(
            b_x,
            p_features,
            sender * nodes + node % nodes,
            other,
            b_wft,
            F,
            FP,
            DTYPE,
            PRECISION,
            EMULATE,
        )
    return elu(b_x)


@triton.jit(do_not_specialize=["edges", "nodes"])
def edge_state_kernel(
    p_sender,
    p_receiver,
    p_w2,
    p_b2,
    p_features,
    p_wf,
    p_above,
    p_state,
    p_mean,
    p_rstd,
    edges,
    nodes,
    H: tl.constexpr,
    F: tl.constexpr,
    FP: tl.constexpr,
    BM: tl.constexpr,
    BACKWARD: tl.constexpr,
    PRECISION: tl.constexpr,
    EMULATE: tl.constexpr,
):
    """First pass into scratch: e and its statistics, or, given the gradient of the mean, that of
    the input of the last elu."""
    DTYPE: tl.constexpr = p_sender.dtype.element_ty
    row, mask, node, sender = edge_rows(tl.program_id(0) * BM, edges, nodes, BM)
    b_x = first_inner(
        p_sender,
        p_receiver,
        p_features,
        p_wf,
        node,
        sender,
        mask,
        nodes,
        H,
        F,
        FP,
        DTYPE,
        PRECISION,
        EMULATE,
    )
    b_w2t = load_transposed(p_w2, H, H, H)
    b_b2 = tl.load(p_b2 + tl.arange(0, H)).to(tl.float32)[None, :]
    b_x = elu(mma(b_x, b_w2t, DTYPE, PRECISION, EMULATE) + b_b2)
    b_e, mean, rstd = normalise(b_x, H)
    if BACKWARD:
        b_grad = load_rows(p_above, node, mask & (node != sender), H) / (nodes - 1)
        b_e = normalise_backward(b_grad, b_e, rstd, H) * elu_slope(b_x)
    else:
        tl.store(p_mean + row, mean, mask=mask)
        tl.store(p_rstd + row, rstd, mask=mask)
    store_rows(p_state, row, mask, b_e, H)


@triton.jit(do_not_specialize=["edges", "nodes"])
def edge_inner_kernel(
    p_sender,
    p_receiver,
    p_w3,
    p_state,
    p_inner,
    edges,
    nodes,
    H: tl.constexpr,
    BM: tl.constexpr,
    PRECISION: tl.constexpr,
    EMULATE: tl.constexpr,
):
    """elu(sender + receiver + W3 e) of the second pass into scratch."""
    DTYPE: tl.constexpr = p_sender.dtype.element_ty
    row, mask, node, sender = edge_rows(tl.program_id(0) * BM, edges, nodes, BM)
    b_e = load_rows(p_state, row, mask, H)
    b_x = mma(b_e, load_transposed(p_w3, H, H, H), DTYPE, PRECISION, EMULATE)
    b_x += load_rows(p_receiver, node, mask, H) + load_rows(p_sender, sender, mask, H)
    store_rows(p_inner, row, mask, elu(b_x), H)


@triton.jit(do_not_specialize=["edges", "nodes", "prior_step"])
def edge_outer_kernel(
    p_inner,
    p_w4,
    p_b4,
    p_wo,
    p_bo,
    p_prior,
    p_temperature,
    p_seed,
    p_store,
    p_above,
    p_first,
    p_second,
    p_kl,
    edges,
    nodes,
    prior_step,
    H: tl.constexpr,
    K: tl.constexpr,
    KP: tl.constexpr,
    BM: tl.constexpr,
    BACKWARD: tl.constexpr,
    NOISE: tl.constexpr,
    HARD: tl.constexpr,
    PRECISION: tl.constexpr,
    EMULATE: tl.constexpr,
):
    """From the second pass's inner layer: z, logits and KL per edge, or, given the gradient of the
    scores, the last state and the gradient of the input of the last elu."""
    DTYPE: tl.constexpr = p_inner.dtype.element_ty
    row, mask, node, sender = edge_rows(tl.program_id(0) * BM, edges, nodes, BM)
    kind, h = tl.arange(0, KP)[None, :], tl.arange(0, H)
    b_x = mma(
        load_rows(p_inner, row, mask, H), load_transposed(p_w4, H, H, H), DTYPE, PRECISION, EMULATE
    )
    b_x = elu(b_x + tl.load(p_b4 + h).to(tl.float32)[None, :])
    b_y, _, rstd = normalise(b_x, H)
    other = mask & (node != sender)
    inside = other[:, None] & (kind < K)
    receiver = node % nodes
    edge = sender * nodes + receiver
    out = edge[:, None] * K + kind
    if BACKWARD:
        b_grad = tl.zeros((BM, H), tl.float32)
        for k in tl.static_range(KP):
            if k < K:
                above = tl.load(p_above + edge * K + k, mask=other, other=0.0)
                b_w = tl.load(p_wo + k * H + h).to(tl.float32)
                b_grad += above[:, None] * b_w[None, :]
        b_grad = normalise_backward(b_grad, b_y, rstd, H) * elu_slope(b_x)
        store_rows(p_first, row, mask, b_grad, H)
        store_rows(p_second, row, mask, b_y, H)
    else:
        b_scores = project(b_y, p_wo, p_bo, H, K, KP)
        store_row = node // nodes
        in_prior = store_row * prior_step + (sender % nodes) * nodes + receiver
        b_prior = tl.load(p_prior + in_prior[:, None] * K + kind, mask=inside, other=-float("inf"))
        b_prior = tl.where(other[:, None] | (kind > 0), b_prior, 0.0)
        seed, store = 0, store_row
        if NOISE:
            seed = tl.load(p_seed)
            store = tl.load(p_store + store_row, mask=mask, other=0)
        b_z, b_logits, b_kl = sample_edge(
            b_scores,
            b_prior,
            seed,
            store,
            ((sender % nodes) << 16) + receiver,
            tl.load(p_temperature),
            KP,
            NOISE,
            HARD,
        )
        tl.store(p_first + out, b_z, mask=inside)
        tl.store(p_second + out, b_logits, mask=inside)
        tl.store(p_kl + row, tl.where(other, b_kl, 0.0), mask=mask)


@triton.jit(do_not_specialize=["edges", "nodes"])
def edge_stage_kernel(
    p_above,
    p_w,
    p_value,
    p_mean,
    p_rstd,
    p_sender,
    p_receiver,
    p_features,
    p_wf,
    p_below,
    edges,
    nodes,
    H: tl.constexpr,
    F: tl.constexpr,
    FP: tl.constexpr,
    BM: tl.constexpr,
    KIND: tl.constexpr,
    PRECISION: tl.constexpr,
    EMULATE: tl.constexpr,
):
    """One layer down: (above @ W) through what stood below W.

    KIND "inner": an elu whose value is in scratch. "state": LayerNorm and elu, e and its statistics
    in scratch. "first": the first layer's elu, recomputed and written to `value`.
    """
    DTYPE: tl.constexpr = p_above.dtype.element_ty
    row, mask, node, sender = edge_rows(tl.program_id(0) * BM, edges, nodes, BM)
    b_above = load_rows(p_above, row, mask, H)
    b_grad = mma(b_above, load_weight(p_w, H), DTYPE, PRECISION, EMULATE)
    if KIND == "inner":
        b_grad *= elu_slope(load_rows(p_value, row, mask, H))
    elif KIND == "state":
        b_e = load_rows(p_value, row, mask, H)
        mean = tl.load(p_mean + row, mask=mask, other=0.0)
        rstd = tl.load(p_rstd + row, mask=mask, other=1.0)
        b_grad = normalise_backward(b_grad, b_e, rstd, H)
        b_grad *= elu_slope(b_e / rstd[:, None] + mean[:, None])
    else:
        b_inner = first_inner(
            p_sender,
            p_receiver,
            p_features,
            p_wf,
            node,
            sender,
            mask,
            nodes,
            H,
            F,
            FP,
            DTYPE,
            PRECISION,
            EMULATE,
        )
        store_rows(p_value, row, mask, b_inner, H)
        b_grad *= elu_slope(b_inner)
    store_rows(p_below, row, mask, b_grad, H)


@triton.jit(do_not_specialize=["edges", "tiles"])
def weight_grad_kernel(
    p_x,
    p_y,
    p_weight,
    p_bias,
    edges,
    tiles,
    H: tl.constexpr,
    G: tl.constexpr,
    BH: tl.constexpr,
    BG: tl.constexpr,
    BM: tl.constexpr,
    PRECISION: tl.constexpr,
    EMULATE: tl.constexpr,
):
    """Partial sums over edges of x y.T [H, G] and of x [H], each program's own share of tiles."""
    DTYPE: tl.constexpr = p_x.dtype.element_ty
    part = tl.program_id(0)
    h = tl.program_id(1) * BH + tl.arange(0, BH)
    g = tl.program_id(2) * BG + tl.arange(0, BG)
    b_weight = tl.zeros((BH, BG), tl.float32)
    b_bias = tl.zeros((BH,), tl.float32)
    for tile in range(part * tiles, (part + 1) * tiles):
        row = tile * BM + tl.arange(0, BM)
        mask = (row < edges)[:, None]
        b_x = tl.load(p_x + row[:, None] * H + h, mask=mask, other=0.0)
        b_y = tl.load(p_y + row[:, None] * G + g, mask=mask, other=0.0)
        b_weight += mma(tl.trans(b_x), b_y, DTYPE, PRECISION, EMULATE)
        b_bias += tl.sum(b_x.to(tl.float32), 0)
    tl.store(p_weight + part * H * G + h[:, None] * G + g, b_weight)
    tl.store(p_bias + part * H + h, b_bias)
