"""The operators that ONNX lacks, spelled in standard ones; the torch originals live where they are
used.

Recurrences are ``Scan`` nodes over axis 0 whose bodies use nothing from outside, the form that most
runtimes accept.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnxscript
import torch
from onnxscript import FLOAT, graph, ir, script
from onnxscript import opset18 as op
from onnxscript.function_libs.torch_lib.ops.core import aten_diagonal

import causalmmm.engine.linalg
import causalmmm.kernels  # noqa: F401  (registers the operators)

_DOMAIN = onnxscript.values.Opset("causalmmm", 1)
_BLOCK = 12  # steps of carry-over at once
_LEAF = 12  # matrices up to this size are inverted row by row, larger ones by halves


def translations() -> dict[Any, Callable[..., Any]]:
    """For ``torch.onnx.export(custom_translation_table=...)``."""
    ours = torch.ops.causalmmm
    return {
        ours.spd_inverse.default: spd_inverse,
        ours.spd_solve.default: spd_solve,
        ours.cholesky.default: cholesky,
        ours.adstock_hill.default: adstock_hill,
        ours.central_intervals.default: central_intervals,
        torch.ops.aten.sigmoid.default: sigmoid,
        torch.ops.aten.elu.default: elu,
        torch.ops.aten.diagonal.default: diagonal,
    }


def spd_inverse(matrix: Any) -> Any:
    """Inverse of [..., M, M] as W'W, W the inverse of the Cholesky factor.

    Half as accurate ways cost less, but small effects would feel it.
    """
    rank = len(matrix.shape)
    whitening = _whitening(matrix, matrix.shape[-1], rank)
    return op.MatMul(op.Transpose(whitening, perm=_flip(rank)), whitening)


def spd_solve(matrix: Any, right: Any) -> Any:
    """``matrix^-1 right`` as W' (W right)."""
    rank = len(matrix.shape)
    whitening = _whitening(matrix, matrix.shape[-1], rank)
    return op.MatMul(op.Transpose(whitening, perm=_flip(rank)), op.MatMul(whitening, right))


def _whitening(matrix: Any, size: int, rank: int) -> Any:
    """W = L^-1 for matrix = L L', by halves, so that nearly all work is matrix products."""
    if size <= _LEAF:
        _, rows = op.Split(_factor_rows(matrix, _eye(size)), num_outputs=2, axis=-1)
        return op.Transpose(op.Squeeze(rows, [-2]), perm=[*range(1, rank - 1), 0, rank - 1])
    first = (size + 1) // 2  # as Split divides
    top, bottom = op.Split(matrix, num_outputs=2, axis=-2)
    corner, _ = op.Split(top, num_outputs=2, axis=-1)
    side, other = op.Split(bottom, num_outputs=2, axis=-1)
    upper = _whitening(corner, first, rank)
    below = op.MatMul(side, op.Transpose(upper, perm=_flip(rank)))
    rest = op.Sub(other, op.MatMul(below, op.Transpose(below, perm=_flip(rank))))
    lower = _whitening(rest, size - first, rank)
    across = op.Neg(op.MatMul(lower, op.MatMul(below, upper)))
    nothing = op.Mul(op.Transpose(across, perm=_flip(rank)), op.Constant(value_float=0.0))
    return op.Concat(
        op.Concat(upper, nothing, axis=-1), op.Concat(across, lower, axis=-1), axis=-2
    )


def _flip(rank: int) -> list[int]:
    return [*range(rank - 2), rank - 1, rank - 2]


def cholesky(matrix: Any) -> Any:
    """Lower triangular factor of [..., M, M]."""
    rank = len(matrix.shape)
    rows, _ = op.Split(_factor_rows(matrix, _eye(matrix.shape[-1])), num_outputs=2, axis=-1)
    return op.Transpose(op.Squeeze(rows, [-2]), perm=[*range(1, rank), 0])


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
    """Stocks [B, N, D, T]; the last block is filled up with zeros, which are cut off again."""
    nodes, parts = decay.shape[:2]
    steps = np.arange(_BLOCK)
    ahead = np.maximum(steps - steps[:, None], 0).astype(np.float32)  # [from, to]
    within = (steps[:, None] <= steps).astype(np.float32)
    one, size = _tensor(np.array([1])), _tensor(np.array([_BLOCK]))
    length = op.Shape(x, start=3, end=4)
    blocks = op.Div(op.Sub(op.Add(length, size), one), size)
    filling = op.Sub(op.Mul(blocks, size), length)
    filled = op.Pad(x, op.Concat(_tensor(np.zeros(7, np.int64)), filling, axis=0))
    lead = op.Shape(x, start=0, end=2)
    rows = op.Reshape(filled, op.Concat(lead, blocks, size, axis=0))  # [B, N, blocks, from]
    flat = op.Reshape(decay, [nodes, 1, parts, 1])
    fresh = op.Sub(op.Constant(value_float=1.0), flat)
    power = op.Mul(op.Pow(flat, _tensor(ahead[:, None])), _tensor(within[:, None]))
    kernel = op.Reshape(op.Mul(fresh, power), [nodes, _BLOCK, parts * _BLOCK])
    inside = op.MatMul(rows, kernel)
    inside = op.Reshape(inside, op.Concat(lead, blocks, _tensor(np.array([parts, _BLOCK])), axis=0))
    gained = op.Squeeze(op.Slice(inside, [_BLOCK - 1], [_BLOCK], [4]), [4])
    rate = op.Reshape(op.Pow(flat, op.Constant(value_float=float(_BLOCK))), [nodes, parts])
    starts = _block_starts(initial, rate, op.Transpose(gained, perm=[2, 0, 1, 3]))
    starts = op.Unsqueeze(op.Transpose(starts, perm=[1, 2, 0, 3]), [4])
    fading = op.Pow(flat, _tensor((steps + 1).astype(np.float32)))  # [N, 1, D, to]
    stock = op.Add(inside, op.Mul(starts, fading))
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


def central_intervals(draws: Any, level: Any) -> Any:
    """``engine.intervals.central_intervals`` of draws [B, N, H, D]: only the tails are sorted."""
    return _central_intervals(draws, level)


def elu(x: Any, alpha: float = 1.0, scale: float = 1.0, input_scale: float = 1.0) -> Any:
    """As max(x, exp(min(x, 0)) - 1): runtimes vectorise these better than their own Elu."""
    if (alpha, scale, input_scale) != (1.0, 1.0, 1.0):
        raise ValueError("only the plain elu is exported")
    below = op.Sub(op.Exp(op.Min(x, op.Constant(value_float=0.0))), op.Constant(value_float=1.0))
    return op.Max(x, below)


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


def _eye(size: int) -> Any:
    return _tensor(np.eye(size, dtype=np.float32))


def _tensor(array: Any) -> Any:
    return op.Constant(value=ir.tensor(array))


@script(_DOMAIN, default_opset=op)
def _factor_rows(matrix: FLOAT[...], eye: FLOAT[...]) -> FLOAT[...]:
    """Rows of [L' | L^-1] for matrix = L L', one after the other: [M, ..., 1, 2 M].

    Elimination of [matrix | I] by outer products; a row that has been used is left as zero.
    """

    @graph()
    def body(state: FLOAT[...], unit: FLOAT[...], place: FLOAT[...]):
        used = op.MatMul(unit, state)
        column = op.MatMul(state, place)
        pivot = op.MatMul(unit, column)
        rest = state - op.MatMul(column / pivot, used)
        return rest, used, pivot

    width = op.Shape(matrix, start=-1)
    both = op.Concat(matrix, op.Expand(eye, op.Shape(matrix)), axis=-1)
    wide = op.Pad(eye, op.Concat(op.Constant(value_ints=[0, 0, 0]), width, axis=0))
    units = op.Unsqueeze(eye, op.Constant(value_ints=[1]))
    places = op.Unsqueeze(wide, op.Constant(value_ints=[2]))
    _rest, rows, pivots = op.Scan(both, units, places, body=body, num_scan_inputs=2)
    return rows / op.Sqrt(pivots)


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
def _central_intervals(draws: FLOAT[...], level: FLOAT[...]) -> FLOAT[...]:
    count = op.Shape(draws, start=3, end=4)
    one = op.Constant(value_ints=[1])
    place = (1.0 - level) / 2.0 * op.Cast(count - one, to=1)
    floor = op.Floor(place)
    before = op.Cast(floor, to=7)
    kept = op.Min(op.ReduceMax(before) + one + one, count)
    after = op.Min(before + one, kept - one)
    low, _low_at = op.TopK(draws, kept, axis=-1, largest=0)
    high, _high_at = op.TopK(draws, kept, axis=-1, largest=1)
    share = place - floor
    low_end = op.Gather(low, before, axis=-1)
    high_end = op.Gather(high, before, axis=-1)
    lower = low_end + share * (op.Gather(low, after, axis=-1) - low_end)
    upper = high_end + share * (op.Gather(high, after, axis=-1) - high_end)
    last = op.Constant(value_ints=[-1])
    both = op.Concat(op.Unsqueeze(lower, last), op.Unsqueeze(upper, last), axis=-1)
    ends = op.Reshape(both, op.Constant(value_ints=[0, 0, 0, -1]))
    return ends


@script(_DOMAIN, default_opset=op)
def _hill(stock: FLOAT[...], slope: FLOAT[...], half: FLOAT[...]) -> FLOAT[...]:
    tiny = op.Constant(value_float=1.1754943508222875e-38)
    one = op.Constant(value_float=1.0)
    ratio = slope * (op.Log(half) - op.Log(op.Max(op.Abs(stock), tiny)))
    return op.Sign(stock) / (one + op.Exp(ratio))
