"""The operators that ONNX lacks, spelled in standard ones; the torch originals live where they are
used.

Recurrences are ``Scan`` nodes over axis 0 whose bodies use nothing from outside, the form that most
runtimes accept.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnxscript
import torch
from onnxscript import FLOAT, INT64, graph, ir, script
from onnxscript import opset18 as op
from onnxscript.function_libs.torch_lib.ops.core import aten_diagonal

import causalmmm.engine.features
import causalmmm.engine.linalg
import causalmmm.kernels  # noqa: F401  (registers the operators)

_DOMAIN = onnxscript.values.Opset("causalmmm", 1)
_BLOCK = 24  # steps of carry-over at once
_LEAF = 8  # matrices up to this size are eliminated pivot by pivot, larger ones by halves
_SPELLED = 128  # of larger ones, and where a store has many, pivots are a loop: files open faster
_LOOP_LEAF = 24


def translations() -> dict[Any, Callable[..., Any]]:
    """For ``torch.onnx.export(custom_translation_table=...)``."""
    ours = torch.ops.causalmmm
    return {
        ours.spd_inverse.default: spd_inverse,
        ours.whitening.default: whitening,
        ours.cholesky.default: cholesky,
        ours.adstock_hill.default: adstock_hill,
        ours.mean_field.default: mean_field,
        torch.ops.aten.sigmoid.default: sigmoid,
        torch.ops.aten.elu.default: elu,
        torch.ops.aten.softplus.default: softplus,
        torch.ops.aten.diagonal.default: diagonal,
    }


def spd_inverse(matrix: Any) -> Any:
    """Inverse of [..., M, M] as W'W, W the inverse of the Cholesky factor.

    Half as accurate ways cost less, but small effects would feel it.
    """
    white = whitening(matrix)
    return op.MatMul(op.Transpose(white, perm=_flip(len(matrix.shape))), white)


def whitening(matrix: Any) -> Any:
    """W = L^-1 for matrix = L L', by halves, so that nearly all work is matrix products."""
    size, rank = matrix.shape[-1], len(matrix.shape)
    looped = size > _SPELLED or (rank > 3 and size > _LEAF)
    return _by_halves(matrix, size, rank, looped, matrix.dtype.numpy())


def _by_halves(matrix: Any, size: int, rank: int, looped: bool, kind: Any) -> Any:
    if size <= (_LOOP_LEAF if looped else _LEAF):
        return _leaf(matrix, size, rank, looped, kind)[1]
    first = (size + 1) // 2
    corner = _part(matrix, rank, (0, first), (0, first))
    side = _part(matrix, rank, (first, size), (0, first))
    other = _part(matrix, rank, (first, size), (first, size))
    upper = _by_halves(corner, first, rank, looped, kind)
    below = op.MatMul(side, op.Transpose(upper, perm=_flip(rank)))
    rest = op.Sub(other, op.MatMul(below, op.Transpose(below, perm=_flip(rank))))
    lower = _by_halves(rest, size - first, rank, looped, kind)
    across = op.Neg(op.MatMul(lower, op.MatMul(below, upper)))
    right = _tensor(np.array([0] * (2 * rank - 1) + [size - first]))
    return op.Concat(op.Pad(upper, right), op.Concat(across, lower, axis=-1), axis=-2)


def cholesky(matrix: Any) -> Any:
    """Lower triangular factor of [..., M, M]."""
    kind = matrix.dtype.numpy()
    return _leaf(matrix, matrix.shape[-1], len(matrix.shape), False, kind)[0]


def _leaf(matrix: Any, size: int, rank: int, looped: bool, kind: Any) -> tuple[Any, Any]:
    """L and W = L^-1 of matrix = L L', of numbers of this ``kind``, by elimination of [matrix | I],
    pivot after pivot.

    All matrices of the batch take a pivot together: they lie along the last axis, and every
    pivot is a few operators that run through it.
    """
    last = op.Reshape(matrix, [-1, size, size]) if rank != 3 else matrix
    last = op.Transpose(last, perm=[1, 2, 0])
    count = op.Shape(last, start=2, end=3)
    unit = _tensor(np.eye(size, dtype=kind)[:, :, None])
    unit = op.Expand(unit, _joined(size, size, count))
    both = op.Concat(last, unit, axis=1)  # [M, 2 M, B]
    found = _pivot_loop(both, _tensor(np.arange(size))) if looped else _eliminated(both, size)
    upper, white = op.Split(found, num_outputs=2, axis=1)
    results = op.Transpose(upper, perm=[2, 1, 0]), op.Transpose(white, perm=[2, 0, 1])
    if rank == 3:
        return results
    shape = op.Shape(matrix)
    return op.Reshape(results[0], shape), op.Reshape(results[1], shape)


def _eliminated(rest: Any, size: int) -> Any:
    """Rows [L' | L^-1] of matrices [matrix | I], both [M, 2 M, B]."""
    rows, pivots = [], []
    for k in range(size):
        used = _slice(rest, (0, 1), 0)
        pivot = _slice(used, (k, k + 1), 1)
        if k + 1 < size:
            rest = _slice(rest, (1, size), 0)
            rest = op.Sub(rest, op.Mul(_slice(rest, (k, k + 1), 1), op.Div(used, pivot)))
        rows.append(used)
        pivots.append(pivot)
    return op.Div(op.Concat(*rows, axis=0), op.Sqrt(op.Concat(*pivots, axis=0)))


def _part(x: Any, rank: int, rows: tuple[int, int], columns: tuple[int, int]) -> Any:
    begin, end = zip(rows, columns, strict=True)
    axes = np.array([rank - 2, rank - 1])
    return op.Slice(x, _tensor(np.array(begin)), _tensor(np.array(end)), _tensor(axes))


def _rows(x: Any, count: int) -> Sequence[Any]:
    """[count, ...] as ``count`` parts [1, ...]."""
    return op.Split(x, num_outputs=count, axis=0) if count > 1 else [x]


def _slice(x: Any, part: tuple[int, int], axis: int) -> Any:
    begin, end = part
    return op.Slice(x, [begin], [end], [axis])


def _joined(*sizes: Any) -> Any:
    """A shape from numbers and one-element tensors."""
    parts = [_tensor(np.array([s])) if isinstance(s, int) else s for s in sizes]
    return op.Concat(*parts, axis=0)


def _flip(rank: int) -> list[int]:
    return [*range(rank - 2), rank - 1, rank - 2]


def adstock_hill(x: Any, decay: Any, slope: Any, half_saturation: Any, initial: Any = None) -> Any:
    """``kernels.adstock_hill`` of x [B, N, 1, T] and decay [N, D, 1], from a given stock [B, N, D].

    Inside a block of steps carry-over is a matrix product; from block to block it is a recurrence.
    """
    if initial is None or len(x.shape) != 4 or len(decay.shape) != 3:
        return _plain_adstock_hill(x, decay, slope, half_saturation, initial)
    stock = _adstock_by_blocks(x, decay, initial)
    final = op.Squeeze(op.Slice(stock, [-1], [2**62], [-1]), [-1])
    return _hill(stock, slope, half_saturation), final


def _adstock_by_blocks(x: Any, decay: Any, initial: Any) -> Any:
    """Stocks [B, N, D, T]; the last block is filled up with zeros, which are cut off again.

    What a block adds and what remains of the stock before it are one product.
    """
    nodes, parts = decay.shape[:2]
    steps = np.arange(_BLOCK)
    ahead = np.maximum(steps - steps[:, None], 0).astype(np.float32)  # [from, to]
    within = (steps[:, None] <= steps).astype(np.float32)
    size = _tensor(np.array([_BLOCK]))
    length = op.Shape(x, start=3, end=4)
    blocks = op.Div(op.Add(length, _tensor(np.array([_BLOCK - 1]))), size)
    filling = op.Sub(op.Mul(blocks, size), length)
    filled = op.Pad(x, op.Concat(_tensor(np.zeros(7, np.int64)), filling, axis=0))
    lead = op.Shape(x, start=0, end=2)
    rows = op.Reshape(filled, op.Concat(lead, blocks, size, axis=0))  # [B, N, blocks, from]
    flat = op.Reshape(decay, [nodes, 1, parts, 1])
    fresh = op.Sub(op.Constant(value_float=1.0), flat)
    power = op.Mul(op.Pow(flat, _tensor(ahead[:, None])), _tensor(within[:, None]))
    kernel = op.Mul(fresh, power)  # [N, from, D, to]
    last = op.Squeeze(op.Slice(kernel, [_BLOCK - 1], [_BLOCK], [3]), [3])
    gained = op.MatMul(rows, last)  # [B, N, blocks, D]
    rate = op.Reshape(op.Pow(flat, op.Constant(value_float=float(_BLOCK))), [nodes, parts])
    starts = _block_starts(initial, rate, op.Transpose(gained, perm=[2, 0, 1, 3]))
    starts = op.Transpose(starts, perm=[1, 2, 0, 3])
    fading = op.Pow(flat, _tensor((steps + 1).astype(np.float32)))  # [N, 1, D, to]
    fading = op.Mul(fading, _tensor(np.eye(parts, dtype=np.float32)[:, :, None]))
    kernel = op.Reshape(op.Concat(kernel, fading, axis=1), [nodes, _BLOCK + parts, parts * _BLOCK])
    stock = op.MatMul(op.Concat(rows, starts, axis=-1), kernel)
    stock = op.Reshape(stock, op.Concat(lead, blocks, _tensor(np.array([parts, _BLOCK])), axis=0))
    stock = op.Transpose(stock, perm=[0, 1, 3, 2, 4])
    stock = op.Reshape(stock, op.Concat(lead, _tensor(np.array([parts, -1])), axis=0))
    return op.Slice(stock, [0], length, [3])


def _plain_adstock_hill(x: Any, decay: Any, slope: Any, half: Any, initial: Any) -> Any:
    """The same step by step, for any leading axes."""
    if initial is None:
        raise ValueError("an exported response begins from a given stock")
    rank = len(x.shape)
    moved = op.Transpose(x, perm=[rank - 1, *range(rank - 1)])
    stock = _adstock(moved, op.Squeeze(decay, [-1]), initial)
    final = op.Squeeze(op.Slice(stock, [-1], [2**62], [0]), [0])
    return _hill(op.Transpose(stock, perm=[*range(1, rank), 0]), slope, half), final


def mean_field(hits: Any, overlap: Any, log_odds: Any, spread: float, sweeps: int) -> Any:
    """``engine.features.mean_field``, sender after sender, all stores and receivers at once.

    Amounts are kept halved, which spares an operator at every turn.
    """
    nodes = hits.shape[-1]
    precision = op.Constant(value_float=spread**-2)
    two = op.Constant(value_float=2.0)
    base = op.Add(op.Transpose(hits, perm=[2, 0, 1]), precision)  # [sender, B, receiver]
    around = op.Transpose(overlap, perm=[2, 3, 0, 1])  # [sender, other sender, B, receiver]
    flat = op.Reshape(around, op.Concat(_tensor(np.array([-1])), op.Shape(hits, end=2), axis=0))
    power = op.Gather(flat, _tensor(np.arange(nodes) * (nodes + 1)), axis=0)
    apart = _tensor(2 * (1 - np.eye(nodes, dtype=np.float32))[:, :, None, None])
    others = op.Mul(around, apart)
    total = op.Add(power, precision)
    gain = op.Div(op.Constant(value_float=0.5), total)
    cost = op.Log(op.Div(total, precision))
    cost = op.Mul(op.Add(cost, precision), op.Constant(value_float=0.5))
    against = op.Sub(cost, op.Transpose(log_odds, perm=[2, 0, 1]))
    given = list(zip(*(_rows(part, nodes) for part in (base, gain, against)), strict=True))
    shares = [op.Squeeze(share, [0]) for share in _rows(others, nodes)]
    amounts: list[Any] = [None] * nodes
    gains: list[Any] = [None] * nodes
    for sweep in range(sweeps):
        for i in range(nodes):
            hit, half, limit = given[i]
            if nodes > 1 and (sweep or i):
                known = nodes if sweep else i
                share = shares[i] if sweep else _slice(shares[i], (0, i), 0)
                felt = op.Mul(share, op.Concat(*amounts[:known], axis=0))
                hit = op.Sub(hit, op.ReduceSum(felt, [0]))
            mean = op.Mul(hit, half)
            gains[i] = op.Mul(hit, mean)
            amounts[i] = op.Mul(mean, op.Sigmoid(op.Sub(gains[i], limit)))
    factor = op.Sub(op.Concat(*gains, axis=0), cost)
    amount = op.Mul(op.Concat(*amounts, axis=0), two)
    return op.Transpose(factor, perm=[1, 2, 0]), op.Transpose(amount, perm=[1, 2, 0])


def elu(x: Any, alpha: float = 1.0, scale: float = 1.0, input_scale: float = 1.0) -> Any:
    """As max(x, exp(min(x, 0)) - 1): runtimes vectorise these better than their own Elu."""
    if (alpha, scale, input_scale) != (1.0, 1.0, 1.0):
        raise ValueError("only the plain elu is exported")
    below = op.Sub(op.Exp(op.Min(x, op.Constant(value_float=0.0))), op.Constant(value_float=1.0))
    return op.Max(x, below)


def softplus(x: Any, beta: float = 1.0, threshold: float = 20.0) -> Any:
    """Of parts that runtimes vectorise, as ``elu``."""
    if (beta, threshold) != (1.0, 20.0):
        raise ValueError("only the plain softplus is exported")
    small = op.Log(op.Add(op.Exp(op.Neg(op.Abs(x))), op.Constant(value_float=1.0)))
    return op.Add(op.Max(x, op.Constant(value_float=0.0)), small)


def diagonal(x: Any, offset: int = 0, dim1: int = 0, dim2: int = 1) -> Any:
    """As a choice of places; the exporter's own form multiplies everything by a mask."""
    rank = len(x.shape)
    first, second = dim1 % rank, dim2 % rank
    size = x.shape[second]
    if offset or second != first + 1 or not isinstance(size, int) or x.shape[first] != size:
        return aten_diagonal(x, offset=offset, dim1=dim1, dim2=dim2)
    parts = [op.Shape(x, start=0, end=first)] if first else []
    parts.append(_tensor(np.array([size * size])))
    if second + 1 < rank:
        parts.append(op.Shape(x, start=second + 1))
    shape = parts[0] if len(parts) == 1 else op.Concat(*parts, axis=0)
    places = _tensor(np.arange(size) * (size + 1))
    chosen = op.Gather(op.Reshape(x, shape), places, axis=first)
    order = [k for k in range(rank - 1) if k != first]
    return op.Transpose(chosen, perm=[*order, first])


def sigmoid(x: Any) -> Any:
    """Some runtimes' own Sigmoid is exact to 1e-7 only, which is little for a small response."""
    return op.Reciprocal(op.Add(op.Exp(op.Neg(x)), op.Constant(value_float=1.0)))


def _tensor(array: Any) -> Any:
    return op.Constant(value=ir.tensor(array))


@script(_DOMAIN, default_opset=op)
def _pivot_loop(both: FLOAT[...], places: INT64[...]) -> FLOAT[...]:
    """As ``_eliminated``; a row that has been used is left as zero. In float64 as well: the state
    of the body takes its type from outside."""

    @graph()
    def body(state, place: INT64):
        used = op.Gather(state, place, axis=0)
        column = op.Gather(state, place, axis=1)
        pivot = op.Gather(column, place, axis=0)
        first = op.Constant(value_ints=[0])
        second = op.Constant(value_ints=[1])
        taken = op.Unsqueeze(column, second) * op.Unsqueeze(used / pivot, first)
        rest = state - taken
        return rest, used, pivot

    _rest, rows, pivots = op.Scan(both, places, body=body, num_scan_inputs=1)
    return rows / op.Sqrt(op.Unsqueeze(pivots, op.Constant(value_ints=[1])))


@script(_DOMAIN, default_opset=op)
def _adstock(x: FLOAT[...], decay: FLOAT[...], initial: FLOAT[...]) -> FLOAT[...]:
    @graph()
    def body(stock: FLOAT[...], rate: FLOAT[...], now: FLOAT[...]):
        after = now + rate * (stock - now)
        kept = op.Identity(rate)
        out = op.Identity(after)
        return after, kept, out

    _final, _rate, stocks = op.Scan(initial, decay, x, body=body, num_scan_inputs=1)
    return stocks


@script(_DOMAIN, default_opset=op)
def _block_starts(initial: FLOAT[...], rate: FLOAT[...], gained: FLOAT[...]) -> FLOAT[...]:
    """Stocks before each block, from what each block by itself leaves: [blocks, B, N, D]."""

    @graph()
    def body(stock: FLOAT[...], kept: FLOAT[...], now: FLOAT[...]):
        after = now + kept * stock
        same = op.Identity(kept)
        out = op.Identity(stock)
        return after, same, out

    _final, _rate, starts = op.Scan(initial, rate, gained, body=body, num_scan_inputs=1)
    return starts


@script(_DOMAIN, default_opset=op)
def _hill(stock: FLOAT[...], slope: FLOAT[...], half: FLOAT[...]) -> FLOAT[...]:
    """stock / size is the sign, for less than ``Sign`` costs; zero stays zero."""
    tiny = op.Constant(value_float=1.1754943508222875e-38)
    one = op.Constant(value_float=1.0)
    size = op.Max(op.Abs(stock), tiny)
    ratio = slope * (op.Log(half) - op.Log(size))
    return stock / (size * (one + op.Exp(ratio)))
