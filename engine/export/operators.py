"""Translations of operators that ONNX lacks into standard ones.

Recurrences are ``Scan`` nodes over axis 0 whose bodies capture no outer values, the form that most
runtimes accept. The torch originals live where they are used (``engine.ops``, ``kernels``).
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

import causalmmm.engine.evidence.mean_field
import causalmmm.engine.ops.linalg
import causalmmm.kernels  # noqa: F401  (registers the operators)

_DOMAIN = onnxscript.values.Opset("causalmmm", 1)
_BLOCK = 24  # steps of carry-over per matrix product
_LEAF = 8  # matrices up to this size are eliminated pivot by pivot, larger ones by halves
_MAX_UNROLLED = 128  # larger matrices, and batches of many, loop over pivots: files load faster
_LOOP_LEAF = 24  # the same as ``_LEAF``, where pivots are a loop


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

    There are cheaper forms of half the accuracy, which is too little for small effects.
    """
    white = whitening(matrix)
    return op.MatMul(op.Transpose(white, perm=_flip(len(matrix.shape))), white)


def whitening(matrix: Any) -> Any:
    """W = L^-1 for matrix = L L', by recursive halving, so that most work is matrix products."""
    size, rank = matrix.shape[-1], len(matrix.shape)
    looped = size > _MAX_UNROLLED or (rank > 3 and size > _LEAF)
    return _by_halves(matrix, size, rank, looped, matrix.dtype.numpy())


def _by_halves(matrix: Any, size: int, rank: int, looped: bool, kind: Any) -> Any:
    if size <= (_LOOP_LEAF if looped else _LEAF):
        return _leaf(matrix, size, rank, looped, kind)[1]
    first = (size + 1) // 2
    corner = _submatrix(matrix, rank, (0, first), (0, first))
    side = _submatrix(matrix, rank, (first, size), (0, first))
    other = _submatrix(matrix, rank, (first, size), (first, size))
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
    """L and W = L^-1 of matrix = L L' by elimination of [matrix | I], pivot by pivot.

    ``kind`` is the numpy dtype of the matrix, float32 or float64.

    The matrices of the batch lie along the last axis, so that every pivot is a few vectorised
    operators on all of them.
    """
    last = op.Reshape(matrix, [-1, size, size]) if rank != 3 else matrix
    last = op.Transpose(last, perm=[1, 2, 0])
    count = op.Shape(last, start=2, end=3)
    unit = _tensor(np.eye(size, dtype=kind)[:, :, None])
    unit = op.Expand(unit, _joined(size, size, count))
    both = op.Concat(last, unit, axis=1)  # [M, 2 M, B]
    rows = _pivot_loop(both, _tensor(np.arange(size))) if looped else _eliminated(both, size)
    upper, white = op.Split(rows, num_outputs=2, axis=1)
    results = op.Transpose(upper, perm=[2, 1, 0]), op.Transpose(white, perm=[2, 0, 1])
    if rank == 3:
        return results
    shape = op.Shape(matrix)
    return op.Reshape(results[0], shape), op.Reshape(results[1], shape)


def _eliminated(rest: Any, size: int) -> Any:
    """Rows [L' | L^-1] of matrices [matrix | I], both [M, 2 M, B]."""
    rows, pivots = [], []
    for k in range(size):
        pivot_row = _slice(rest, (0, 1), 0)
        pivot = _slice(pivot_row, (k, k + 1), 1)
        if k + 1 < size:
            rest = _slice(rest, (1, size), 0)
            rest = op.Sub(rest, op.Mul(_slice(rest, (k, k + 1), 1), op.Div(pivot_row, pivot)))
        rows.append(pivot_row)
        pivots.append(pivot)
    return op.Div(op.Concat(*rows, axis=0), op.Sqrt(op.Concat(*pivots, axis=0)))


def _submatrix(x: Any, rank: int, rows: tuple[int, int], columns: tuple[int, int]) -> Any:
    begin, end = zip(rows, columns, strict=True)
    axes = np.array([rank - 2, rank - 1])
    return op.Slice(x, _tensor(np.array(begin)), _tensor(np.array(end)), _tensor(axes))


def _rows(x: Any, count: int) -> Sequence[Any]:
    """[count, ...] split into ``count`` tensors [1, ...]."""
    return op.Split(x, num_outputs=count, axis=0) if count > 1 else [x]


def _slice(x: Any, span: tuple[int, int], axis: int) -> Any:
    begin, end = span
    return op.Slice(x, [begin], [end], [axis])


def _joined(*sizes: Any) -> Any:
    """A shape from numbers and one-element tensors."""
    dimensions = [_tensor(np.array([s])) if isinstance(s, int) else s for s in sizes]
    return op.Concat(*dimensions, axis=0)


def _flip(rank: int) -> list[int]:
    return [*range(rank - 2), rank - 1, rank - 2]


def adstock_hill(x: Any, decay: Any, slope: Any, half_saturation: Any, initial: Any = None) -> Any:
    """``kernels.adstock_hill`` of x [B, N, 1, T] and decay [N, D, 1], from an initial adstock
    [B, N, D].

    Carry-over is a matrix product within a block of steps, and a recurrence from block to block.
    """
    if initial is None or len(x.shape) != 4 or len(decay.shape) != 3:
        return _plain_adstock_hill(x, decay, slope, half_saturation, initial)
    stock = _adstock_by_blocks(x, decay, initial)
    final = op.Squeeze(op.Slice(stock, [-1], [2**62], [-1]), [-1])
    return _hill(stock, slope, half_saturation), final


def _adstock_by_blocks(x: Any, decay: Any, initial: Any) -> Any:
    """Adstock [B, N, D, T]. The last block is padded with zeros, which are cut off at the end.

    The contribution of a block and the remainder of the adstock before it are one matrix product.
    """
    nodes, components = decay.shape[:2]
    steps = np.arange(_BLOCK)
    ahead = np.maximum(steps - steps[:, None], 0).astype(np.float32)  # [from, to]
    within = (steps[:, None] <= steps).astype(np.float32)
    size = _tensor(np.array([_BLOCK]))
    length = op.Shape(x, start=3, end=4)
    blocks = op.Div(op.Add(length, _tensor(np.array([_BLOCK - 1]))), size)
    padding = op.Sub(op.Mul(blocks, size), length)
    padded = op.Pad(x, op.Concat(_tensor(np.zeros(7, np.int64)), padding, axis=0))
    lead = op.Shape(x, start=0, end=2)
    rows = op.Reshape(padded, op.Concat(lead, blocks, size, axis=0))  # [B, N, blocks, from]
    flat = op.Reshape(decay, [nodes, 1, components, 1])
    fresh = op.Sub(op.Constant(value_float=1.0), flat)
    powers = op.Mul(op.Pow(flat, _tensor(ahead[:, None])), _tensor(within[:, None]))
    kernel = op.Mul(fresh, powers)  # [N, from, D, to]
    last = op.Squeeze(op.Slice(kernel, [_BLOCK - 1], [_BLOCK], [3]), [3])
    gained = op.MatMul(rows, last)  # [B, N, blocks, D]
    rate = op.Reshape(op.Pow(flat, op.Constant(value_float=float(_BLOCK))), [nodes, components])
    starts = _block_starts(initial, rate, op.Transpose(gained, perm=[2, 0, 1, 3]))
    starts = op.Transpose(starts, perm=[1, 2, 0, 3])
    fading = op.Pow(flat, _tensor((steps + 1).astype(np.float32)))  # [N, 1, D, to]
    fading = op.Mul(fading, _tensor(np.eye(components, dtype=np.float32)[:, :, None]))
    kernel = op.Reshape(
        op.Concat(kernel, fading, axis=1), [nodes, _BLOCK + components, components * _BLOCK]
    )
    stock = op.MatMul(op.Concat(rows, starts, axis=-1), kernel)
    stock = op.Reshape(
        stock, op.Concat(lead, blocks, _tensor(np.array([components, _BLOCK])), axis=0)
    )
    stock = op.Transpose(stock, perm=[0, 1, 3, 2, 4])
    stock = op.Reshape(stock, op.Concat(lead, _tensor(np.array([components, -1])), axis=0))
    return op.Slice(stock, [0], length, [3])


def _plain_adstock_hill(x: Any, decay: Any, slope: Any, half: Any, initial: Any) -> Any:
    """The same, step by step, for any leading axes."""
    if initial is None:
        raise ValueError("an exported response needs an initial adstock")
    rank = len(x.shape)
    moved = op.Transpose(x, perm=[rank - 1, *range(rank - 1)])
    stock = _adstock(moved, op.Squeeze(decay, [-1]), initial)
    final = op.Squeeze(op.Slice(stock, [-1], [2**62], [0]), [0])
    return _hill(op.Transpose(stock, perm=[*range(1, rank), 0]), slope, half), final


def mean_field(xty: Any, overlap: Any, log_odds: Any, spread: float, sweeps: int) -> Any:
    """``engine.evidence.mean_field.mean_field``: one sender after another, for all stores at once.

    Posterior means are stored halved, which saves an operator per sender and sweep.
    """
    nodes = xty.shape[-1]
    precision = op.Constant(value_float=spread**-2)
    two = op.Constant(value_float=2.0)
    base = op.Add(op.Transpose(xty, perm=[2, 0, 1]), precision)  # [sender, B, receiver]
    around = op.Transpose(overlap, perm=[2, 3, 0, 1])  # [sender, other sender, B, receiver]
    flat = op.Reshape(around, op.Concat(_tensor(np.array([-1])), op.Shape(xty, end=2), axis=0))
    xtx_diag = op.Gather(flat, _tensor(np.arange(nodes) * (nodes + 1)), axis=0)
    apart = _tensor(2 * (1 - np.eye(nodes, dtype=np.float32))[:, :, None, None])
    others = op.Mul(around, apart)
    total = op.Add(xtx_diag, precision)
    gain = op.Div(op.Constant(value_float=0.5), total)
    cost = op.Log(op.Div(total, precision))
    cost = op.Mul(op.Add(cost, precision), op.Constant(value_float=0.5))
    against = op.Sub(cost, op.Transpose(log_odds, perm=[2, 0, 1]))
    per_sender = list(zip(*(_rows(x, nodes) for x in (base, gain, against)), strict=True))
    shares = [op.Squeeze(share, [0]) for share in _rows(others, nodes)]
    half_means: list[Any] = [None] * nodes
    gains: list[Any] = [None] * nodes
    for sweep in range(sweeps):
        for i in range(nodes):
            remaining, half, limit = per_sender[i]
            if nodes > 1 and (sweep or i):
                updated = nodes if sweep else i
                share = shares[i] if sweep else _slice(shares[i], (0, i), 0)
                explained = op.Mul(share, op.Concat(*half_means[:updated], axis=0))
                remaining = op.Sub(remaining, op.ReduceSum(explained, [0]))
            mean = op.Mul(remaining, half)
            gains[i] = op.Mul(remaining, mean)
            half_means[i] = op.Mul(mean, op.Sigmoid(op.Sub(gains[i], limit)))
    factor = op.Sub(op.Concat(*gains, axis=0), cost)
    post_mean = op.Mul(op.Concat(*half_means, axis=0), two)
    return op.Transpose(factor, perm=[1, 2, 0]), op.Transpose(post_mean, perm=[1, 2, 0])


def elu(x: Any, alpha: float = 1.0, scale: float = 1.0, input_scale: float = 1.0) -> Any:
    """As max(x, exp(min(x, 0)) - 1): runtimes vectorise these better than their own Elu."""
    if (alpha, scale, input_scale) != (1.0, 1.0, 1.0):
        raise ValueError("only the plain elu is exported")
    below = op.Sub(op.Exp(op.Min(x, op.Constant(value_float=0.0))), op.Constant(value_float=1.0))
    return op.Max(x, below)


def softplus(x: Any, beta: float = 1.0, threshold: float = 20.0) -> Any:
    """From operators that runtimes vectorise, as ``elu``."""
    if (beta, threshold) != (1.0, 20.0):
        raise ValueError("only the plain softplus is exported")
    small = op.Log(op.Add(op.Exp(op.Neg(op.Abs(x))), op.Constant(value_float=1.0)))
    return op.Add(op.Max(x, op.Constant(value_float=0.0)), small)


def diagonal(x: Any, offset: int = 0, dim1: int = 0, dim2: int = 1) -> Any:
    """As a gather; the exporter's own form multiplies the whole matrix by a mask."""
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
    indices = _tensor(np.arange(size) * (size + 1))
    gathered = op.Gather(op.Reshape(x, shape), indices, axis=first)
    order = [k for k in range(rank - 1) if k != first]
    return op.Transpose(gathered, perm=[*order, first])


def sigmoid(x: Any) -> Any:
    """Some runtimes' own Sigmoid has an absolute error of 1e-7, too much for a small response."""
    return op.Reciprocal(op.Add(op.Exp(op.Neg(x)), op.Constant(value_float=1.0)))


def _tensor(array: Any) -> Any:
    return op.Constant(value=ir.tensor(array))


@script(_DOMAIN, default_opset=op)
def _pivot_loop(both: FLOAT[...], places: INT64[...]) -> FLOAT[...]:
    """As ``_eliminated``; rows that have been pivots are left as zero.

    The state of the body has no declared type, so that it takes float32 and float64.
    """

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
    """Adstock before each block, from the contribution of each block alone, [blocks, B, N, D]."""

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
    """stock / size is the sign and costs less than ``Sign``; zero stays zero."""
    tiny = op.Constant(value_float=1.1754943508222875e-38)
    one = op.Constant(value_float=1.0)
    size = op.Max(op.Abs(stock), tiny)
    ratio = slope * (op.Log(half) - op.Log(size))
    return stock / (size * (one + op.Exp(ratio)))
