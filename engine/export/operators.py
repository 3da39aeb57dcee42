"""Translations of operators that ONNX lacks into standard ones.

Recurrences are ``Scan`` nodes over axis 0, the form that most runtimes accept. The torch originals
live where they are used (``engine.ops``, ``kernels``).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from causalmmm.engine.evidence.mean_field import coordinate_ascent
from causalmmm.engine.export.nodes import ELEMENT, LAST, Nodes, Value
from causalmmm.engine.ops import linalg
from causalmmm.engine.regression.answers import ascending
from causalmmm.engine.regression.contributions import kept
from causalmmm.engine.regression.edges import below
from causalmmm.kernels.edge import reference
from causalmmm.kernels.edge.records import Draw, FirstPass, SecondPass

_BLOCK = 24  # steps of carry-over per matrix product
_LEAF = 8  # matrices up to this size are eliminated pivot by pivot, larger ones by halves
_MAX_UNROLLED = 128  # larger matrices, and batches of many, loop over pivots: files load faster
_LOOP_LEAF = 24  # the same as ``_LEAF``, where pivots are a loop
_NUMPY = {torch.float32: np.float32, torch.float64: np.float64}


def translations() -> dict[Any, Callable[..., Any]]:
    """By the function that is translated as a whole."""
    return {
        linalg.spd_inverse: spd_inverse,
        linalg.whitening: whitening,
        linalg.cholesky: cholesky,
        linalg.factor: factor,
        linalg.solve_factor: lambda op, out, white, right: op.MatMul(white, right),
        linalg.solve_factor_transposed: lambda op, out, white, right: op.MatMul(
            _turned(op, white), right
        ),
        linalg.solve_matrix: lambda op, out, white, right: op.MatMul(
            _turned(op, white), op.MatMul(white, right)
        ),
        linalg.inverse_of: lambda op, out, white: op.MatMul(_turned(op, white), white),
        linalg.log_determinant: _log_determinant,
        below: _below,
        ascending: _ascending,
        kept: _kept,
        coordinate_ascent: mean_field,
        torch.ops.causalmmm.adstock_hill.default: adstock_hill,
    }


def examples() -> dict[Any, Callable[..., Any]]:
    """Shape and dtype of what those functions give that cannot be given any numbers."""
    return {
        linalg.spd_inverse: torch.ones_like,
        linalg.whitening: torch.ones_like,
        linalg.cholesky: torch.ones_like,
        linalg.factor: torch.ones_like,
        linalg.solve_factor: lambda white, right: torch.ones_like(white @ right),
        linalg.solve_factor_transposed: lambda white, right: torch.ones_like(white @ right),
        linalg.solve_matrix: lambda white, right: torch.ones_like(white @ right),
        linalg.inverse_of: torch.ones_like,
        linalg.log_determinant: lambda white: torch.ones_like(white[..., 0, 0]),
        coordinate_ascent: lambda xty, *_: (torch.ones_like(xty), torch.ones_like(xty)),
    }


def replaced() -> dict[Any, Callable[..., Any]]:
    """Functions whose reference form exports to ONNX."""
    ours = torch.ops.causalmmm
    return {ours.edge_mean.default: _edge_mean, ours.edge_sample.default: _edge_sample}


def _edge_mean(*flat: Any) -> tuple[Tensor, Tensor, Tensor]:
    """Mean, states and, for the third result, which is for gradients alone, anything."""
    *first, _ = flat
    edges = reference.edge_states(FirstPass(*first))
    self_loops = edges.diagonal(dim1=1, dim2=2).mT  # [B, N, H]
    return (edges.sum(1) - self_loops) / (edges.shape[1] - 1), edges, edges


def _edge_sample(*flat: Any) -> tuple[Tensor, Tensor, Tensor]:
    second, draw = len(FirstPass._fields), len(FirstPass._fields) + len(SecondPass._fields)
    *arguments, states = flat
    records = FirstPass(*flat[:second]), SecondPass(*flat[second:draw]), Draw(*arguments[draw:])
    return reference.edge_sample(*records, states)


def spd_inverse(op: Nodes, out: Any, matrix: Any) -> Value:
    """Inverse of [..., M, M] as W'W, W the inverse of the Cholesky factor.

    There are cheaper forms of half the accuracy, which is too little for small effects.
    """
    white = whitening(op, out, matrix)
    return op.MatMul(op.Transpose(white, perm=_flip(len(matrix.shape))), white)


def whitening(op: Nodes, out: Any, matrix: Any) -> Value:
    """W = L^-1 for matrix = L L', by recursive halving, so that most work is matrix products."""
    size, rank = matrix.shape[-1], len(matrix.shape)
    looped = size > _MAX_UNROLLED or (rank > 3 and size > _LEAF)
    return _by_halves(op, matrix, size, rank, looped, matrix.dtype)


def factor(op: Nodes, out: Any, matrix: Any) -> Value:
    """What stands for a matrix [..., M, M] in ``linalg``: here the inverse of its Cholesky factor.

    As one batch of matrices, whatever its axes: they are eliminated side by side.
    """
    size, rank = matrix.shape[-1], len(matrix.shape)
    flat = matrix if rank == 3 else op.Reshape(matrix, [-1, size, size])
    white = _by_halves(op, flat, size, 3, size > _MAX_UNROLLED, matrix.dtype)
    return white if rank == 3 else op.Reshape(white, op.Shape(matrix))


def _turned(op: Nodes, white: Any) -> Value:
    return op.Transpose(white, perm=_flip(len(white.shape)))


def _log_determinant(op: Nodes, out: Any, white: Any) -> Value:
    size = white.shape[-1]
    inside = np.eye(size, dtype=_NUMPY[white.dtype])
    on = op.ReduceSum(op.Mul(white, inside), [-1], keepdims=0)
    return op.Mul(op.ReduceSum(op.Log(on), [-1], keepdims=0), op.constant(-2.0, white.dtype))


def _below(op: Nodes, out: Any, ends: Any, value: Any) -> Value:
    less = op.Less(op.Unsqueeze(ends, [1]), op.Unsqueeze(value, [2]))
    count = op.ReduceSum(op.Cast(less, to=ELEMENT[torch.float32]), [-1], keepdims=0)
    return op.Cast(count, to=ELEMENT[torch.int64])


def _ascending(op: Nodes, out: Any, values: Any) -> Value:
    return op.add("TopK", [values, [values.shape[0]]], {"axis": 0, "largest": 0}, 2)[0]


def _kept(op: Nodes, out: Any, part: Any, own: Any) -> Value:
    """``regression.contributions.kept``: c(t) + own c(t - 1) + own^2 c(t - 2) + ..."""
    rank = len(part.shape)
    missing = [*range(len(own.shape), rank - 1)]
    weight = op.Unsqueeze(own, missing) if missing else own
    moved = op.Transpose(part, perm=[rank - 1, *range(rank - 1)])
    first = op.Gather(moved, np.array(0), axis=0)
    zero = op.Sub(first, first)

    def body(op: Nodes, states: Sequence[Value], rows: Sequence[Value]) -> Any:
        after = _of(op.Add(rows[0], op.Mul(weight, states[0])), part.dtype, rank - 1)
        return [after], [after]

    path = op.scan(body, [(zero, part.dtype, rank - 1)], [(moved, part.dtype, rank)])[1]
    return op.Transpose(path, perm=[*range(1, rank), 0])


def _by_halves(
    op: Nodes, matrix: Any, size: int, rank: int, looped: bool, dtype: torch.dtype
) -> Value:
    if size <= (_LOOP_LEAF if looped else _LEAF):
        return _leaf(op, matrix, size, rank, looped, dtype)[1]
    first = (size + 1) // 2
    corner = _submatrix(op, matrix, rank, (0, first), (0, first))
    side = _submatrix(op, matrix, rank, (first, size), (0, first))
    other = _submatrix(op, matrix, rank, (first, size), (first, size))
    upper = _by_halves(op, corner, first, rank, looped, dtype)
    below = op.MatMul(side, op.Transpose(upper, perm=_flip(rank)))
    rest = op.Sub(other, op.MatMul(below, op.Transpose(below, perm=_flip(rank))))
    lower = _by_halves(op, rest, size - first, rank, looped, dtype)
    across = op.Neg(op.MatMul(lower, op.MatMul(below, upper)))
    right = op.Pad(upper, [0] * (2 * rank - 1) + [size - first])
    return op.Concat(right, op.Concat(across, lower, axis=-1), axis=-2)


def cholesky(op: Nodes, out: Any, matrix: Any) -> Value:
    """Lower triangular factor of [..., M, M]."""
    return _leaf(op, matrix, matrix.shape[-1], len(matrix.shape), False, matrix.dtype)[0]


def _leaf(
    op: Nodes, matrix: Any, size: int, rank: int, looped: bool, dtype: torch.dtype
) -> tuple[Value, Value]:
    """L and W = L^-1 of matrix = L L' by elimination of [matrix | I], pivot by pivot.

    The matrices of the batch lie along the last axis, so that every pivot is a few vectorised
    operators on all of them.
    """
    last = op.Reshape(matrix, [-1, size, size]) if rank != 3 else matrix
    last = op.Transpose(last, perm=[1, 2, 0])
    shape = op.Concat([size, size], op.Shape(last, start=2, end=3), axis=0)
    unit = op.Expand(np.eye(size, dtype=_NUMPY[dtype])[:, :, None], shape)
    both = op.Concat(last, unit, axis=1)  # [M, 2 M, B]
    rows = _pivot_loop(op, both, size, dtype) if looped else _eliminated(op, both, size)
    upper, white = op.split(rows, 2, axis=1)
    lower, white = op.Transpose(upper, perm=[2, 1, 0]), op.Transpose(white, perm=[2, 0, 1])
    if rank == 3:
        return lower, white
    shape = op.Shape(matrix)
    return op.Reshape(lower, shape), op.Reshape(white, shape)


def _eliminated(op: Nodes, rest: Any, size: int) -> Value:
    """Rows [L' | L^-1] of matrices [matrix | I], both [M, 2 M, B]."""
    rows, pivots = [], []
    for k in range(size):
        pivot_row = _slice(op, rest, (0, 1), 0)
        pivot = _slice(op, pivot_row, (k, k + 1), 1)
        if k + 1 < size:
            rest = _slice(op, rest, (1, size), 0)
            share = op.Div(pivot_row, pivot)
            rest = op.Sub(rest, op.Mul(_slice(op, rest, (k, k + 1), 1), share))
        rows.append(pivot_row)
        pivots.append(pivot)
    return op.Div(op.Concat(*rows, axis=0), op.Sqrt(op.Concat(*pivots, axis=0)))


def _pivot_loop(op: Nodes, both: Value, size: int, dtype: torch.dtype) -> Value:
    """As ``_eliminated``; rows that have been pivots are left as zero."""

    def body(op: Nodes, states: Sequence[Value], rows: Sequence[Value]) -> Any:
        (state,), (place,) = states, rows
        used = op.Gather(state, place, axis=0)  # [2 M, B]
        column = op.Gather(state, place, axis=1)  # [M, B]
        pivot = op.Gather(column, place, axis=0)  # [B]
        taken = op.Mul(op.Unsqueeze(column, [1]), op.Unsqueeze(op.Div(used, pivot), [0]))
        rest = op.Sub(state, taken)
        return [_of(rest, dtype, 3)], [_of(used, dtype, 2), _of(pivot, dtype, 1)]

    places = op.value(np.arange(size))
    _, rows, pivots = op.scan(body, [(both, dtype, 3)], [(places, torch.int64, 1)])
    return op.Div(rows, op.Sqrt(op.Unsqueeze(pivots, [1])))


def _of(value: Value, dtype: torch.dtype, rank: int) -> Value:
    return Value(value.name, dtype, (0,) * rank)


def _submatrix(
    op: Nodes, x: Any, rank: int, rows: tuple[int, int], columns: tuple[int, int]
) -> Value:
    begin, end = zip(rows, columns, strict=True)
    return op.Slice(x, list(begin), list(end), [rank - 2, rank - 1])


def _slice(op: Nodes, x: Any, span: tuple[int, int], axis: int) -> Value:
    begin, end = span
    return op.Slice(x, [begin], [end], [axis])


def _flip(rank: int) -> list[int]:
    return [*range(rank - 2), rank - 1, rank - 2]


def adstock_hill(
    op: Nodes, out: Any, x: Any, decay: Any, slope: Any, half_saturation: Any, initial: Any = None
) -> tuple[Value, Value]:
    """``kernels.adstock_hill`` of x [B, N, 1, T] and decay [N, D, 1], from an initial adstock
    [B, N, D].

    Carry-over is a matrix product within a block of steps, and a recurrence from block to block.
    """
    if initial is None:
        raise ValueError("an exported response needs an initial adstock")
    if len(x.shape) != 4 or len(decay.shape) != 3:
        return _plain_adstock_hill(op, x, decay, slope, half_saturation, initial)
    stock = _adstock_by_blocks(op, x, decay, initial)
    final = op.Squeeze(op.Slice(stock, [-1], [LAST], [-1]), [-1])
    return _hill(op, stock, slope, half_saturation), final


def _adstock_by_blocks(op: Nodes, x: Any, decay: Any, initial: Any) -> Value:
    """Adstock [B, N, D, T]. The last block is padded with zeros, which are cut off at the end.

    The contribution of a block and the remainder of the adstock before it are one matrix product.
    """
    nodes, components = decay.shape[:2]
    steps = np.arange(_BLOCK)
    ahead = np.maximum(steps - steps[:, None], 0).astype(np.float32)  # [from, to]
    within = (steps[:, None] <= steps).astype(np.float32)
    length = op.Shape(x, start=3, end=4)
    blocks = op.Div(op.Add(length, [_BLOCK - 1]), [_BLOCK])
    padding = op.Sub(op.Mul(blocks, [_BLOCK]), length)
    padded = op.Pad(x, op.Concat([0] * 7, padding, axis=0))
    lead = op.Shape(x, start=0, end=2)
    rows = op.Reshape(padded, op.Concat(lead, blocks, [_BLOCK], axis=0))  # [B, N, blocks, from]
    flat = op.Reshape(decay, [nodes, 1, components, 1])
    fresh = op.Sub(op.constant(1.0), flat)
    powers = op.Mul(op.Pow(flat, ahead[:, None]), within[:, None])
    kernel = op.Mul(fresh, powers)  # [N, from, D, to]
    last = op.Squeeze(op.Slice(kernel, [_BLOCK - 1], [_BLOCK], [3]), [3])
    gained = op.MatMul(rows, last)  # [B, N, blocks, D]
    rate = op.Reshape(op.Pow(flat, op.constant(float(_BLOCK))), [nodes, components])
    starts = _block_starts(op, initial, rate, op.Transpose(gained, perm=[2, 0, 1, 3]))
    starts = op.Transpose(starts, perm=[1, 2, 0, 3])
    fading = op.Pow(flat, (steps + 1).astype(np.float32))  # [N, 1, D, to]
    fading = op.Mul(fading, np.eye(components, dtype=np.float32)[:, :, None])
    kernel = op.Reshape(
        op.Concat(kernel, fading, axis=1), [nodes, _BLOCK + components, components * _BLOCK]
    )
    stock = op.MatMul(op.Concat(rows, starts, axis=-1), kernel)
    stock = op.Reshape(stock, op.Concat(lead, blocks, [components, _BLOCK], axis=0))
    stock = op.Transpose(stock, perm=[0, 1, 3, 2, 4])
    stock = op.Reshape(stock, op.Concat(lead, [components, -1], axis=0))
    return op.Slice(stock, [0], length, [3])


def _block_starts(op: Nodes, initial: Any, rate: Value, gained: Value) -> Value:
    """Adstock before each block, from the contribution of each block alone, [blocks, B, N, D]."""

    def body(op: Nodes, states: Sequence[Value], rows: Sequence[Value]) -> Any:
        (stock,), (now,) = states, rows
        after = op.Add(now, op.Mul(rate, stock))
        return [_of(after, torch.float32, 3)], [stock]

    return op.scan(body, [(initial, torch.float32, 3)], [(gained, torch.float32, 4)])[1]


def _plain_adstock_hill(
    op: Nodes, x: Any, decay: Any, slope: Any, half: Any, initial: Any
) -> tuple[Value, Value]:
    """The same, step by step, for any leading axes and in the dtype of x."""
    inside, rank, dtype = len(x.shape), max(len(x.shape), len(decay.shape)), x.dtype
    rate = op.Squeeze(decay, [-1])
    moved = op.Transpose(x, perm=[inside - 1, *range(inside - 1)])
    zero = op.Sub(op.Gather(moved, np.array(0), axis=0), op.Gather(moved, np.array(0), axis=0))
    stock = op.Add(op.Add(initial, zero), op.Mul(rate, op.constant(0.0, dtype)))  # all axes

    def body(op: Nodes, states: Sequence[Value], rows: Sequence[Value]) -> Any:
        (stock,), (now,) = states, rows
        after = op.Add(now, op.Mul(rate, op.Sub(stock, now)))
        return [_of(after, dtype, rank - 1)], [_of(after, dtype, rank - 1)]

    final, stock = op.scan(body, [(stock, dtype, rank - 1)], [(moved, dtype, inside)])
    stock = op.Transpose(stock, perm=[*range(1, rank), 0])
    return _hill(op, stock, slope, half, dtype), final


def _hill(
    op: Nodes, stock: Value, slope: Any, half: Any, dtype: torch.dtype = torch.float32
) -> Value:
    """stock / size is the sign and costs less than ``Sign``; zero stays zero."""
    size = op.Max(op.Abs(stock), op.constant(torch.finfo(dtype).tiny, dtype))
    ratio = op.Mul(slope, op.Sub(op.Log(half), op.Log(size)))
    return op.Div(stock, op.Mul(size, op.Add(op.constant(1.0, dtype), op.Exp(ratio))))


def mean_field(
    op: Nodes, out: Any, xty: Any, overlap: Any, log_odds: Any, spread: float, sweeps: int
) -> tuple[Value, Value]:
    """``engine.evidence.mean_field.mean_field``: one sender after another, for all stores at once.

    Posterior means are stored halved, which saves an operator per sender and sweep.
    """
    nodes = xty.shape[-1]
    precision = op.constant(float(spread**-2))
    base = op.Add(op.Transpose(xty, perm=[2, 0, 1]), precision)  # [sender, B, receiver]
    around = op.Transpose(overlap, perm=[2, 3, 0, 1])  # [sender, other sender, B, receiver]
    flat = op.Reshape(around, op.Concat([-1], op.Shape(xty, end=2), axis=0))
    xtx_diag = op.Gather(flat, np.arange(nodes) * (nodes + 1), axis=0)
    apart = 2 * (1 - np.eye(nodes, dtype=np.float32))[:, :, None, None]
    others = op.Mul(around, apart)
    total = op.Add(xtx_diag, precision)
    gain = op.Div(op.constant(0.5), total)
    cost = op.Log(op.Div(total, precision))
    cost = op.Mul(op.Add(cost, precision), op.constant(0.5))
    against = op.Sub(cost, op.Transpose(log_odds, perm=[2, 0, 1]))
    per_sender = list(zip(*(op.split(x, nodes, 0) for x in (base, gain, against)), strict=True))
    shares = [op.Squeeze(share, [0]) for share in op.split(others, nodes, 0)]
    half_means: list[Any] = [None] * nodes
    gains: list[Any] = [None] * nodes
    for sweep in range(sweeps):
        for i in range(nodes):
            remaining, half, limit = per_sender[i]
            if nodes > 1 and (sweep or i):
                updated = nodes if sweep else i
                share = shares[i] if sweep else _slice(op, shares[i], (0, i), 0)
                explained = op.Mul(share, op.Concat(*half_means[:updated], axis=0))
                remaining = op.Sub(remaining, op.ReduceSum(explained, [0]))
            mean = op.Mul(remaining, half)
            gains[i] = op.Mul(remaining, mean)
            half_means[i] = op.Mul(mean, op.Sigmoid(op.Sub(gains[i], limit)))
    factor = op.Sub(op.Concat(*gains, axis=0), cost)
    post_mean = op.Mul(op.Concat(*half_means, axis=0), op.constant(2.0))
    return op.Transpose(factor, perm=[1, 2, 0]), op.Transpose(post_mean, perm=[1, 2, 0])


def elu(op: Nodes, out: Any, x: Any, alpha: float = 1.0, inplace: bool = False) -> Value:
    """As max(x, exp(min(x, 0)) - 1): runtimes vectorise these better than their own Elu."""
    if alpha != 1.0 or inplace:
        raise ValueError("only the plain elu is exported")
    below = op.Sub(op.Exp(op.Min(x, op.constant(0.0))), op.constant(1.0))
    return op.Max(x, below)


def softplus(op: Nodes, out: Any, x: Any) -> Value:
    """From operators that runtimes vectorise, as ``elu``."""
    zero, one = (op.constant(number, out.dtype) for number in (0.0, 1.0))
    small = op.Log(op.Add(op.Exp(op.Neg(op.Abs(x))), one))
    return op.Add(op.Max(x, zero), small)


def diagonal(op: Nodes, out: Any, x: Any, *, dim1: int, dim2: int) -> Value:
    """As a gather of the flattened axes; a mask would touch the whole matrix."""
    rank = len(x.shape)
    first, second = sorted((dim1 % rank, dim2 % rank))
    if x.shape[first] != x.shape[second]:
        raise ValueError("only diagonals of square matrices are exported")
    if second != first + 1:  # bring the other axis next to the first
        perm = [k for k in range(rank) if k != second]
        perm.insert(first + 1, second)
        x = op.Transpose(x, perm=perm)
    size = out.shape[-1]
    parts = [op.Shape(x, start=0, end=first)] if first else []
    parts.append(op.value([size * size]))
    if first + 2 < rank:
        parts.append(op.Shape(x, start=first + 2))
    shape = parts[0] if len(parts) == 1 else op.Concat(*parts, axis=0)
    gathered = op.Gather(op.Reshape(x, shape), np.arange(size) * (size + 1), axis=first)
    order = [k for k in range(rank - 1) if k != first]
    return op.Transpose(gathered, perm=[*order, first])


def sigmoid(op: Nodes, out: Any, x: Any) -> Value:
    """Some runtimes' own Sigmoid has an absolute error of 1e-7, too much for a small response."""
    one = op.constant(1.0, out.dtype)
    return op.Reciprocal(op.Add(op.Exp(op.Neg(x)), one))
