"""How the operands of a broadcast row operator are addressed: common leading axes and strides.

Shape arithmetic only: nothing here touches memory, so that one plan serves every call of one shape.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from math import prod

MAX_AXES = 6  # kMaxAxes of csrc/response/response.h

# Fewer groups than this leave processors idle; rows are then visited one by one.
MIN_GROUPS = {"cpu": 64, "cuda": 4096}


@dataclass(frozen=True)
class Plan:
    """Leading axes with their sizes, and for every operand one stride per axis.

    The last `shared_axes` axes are those along which x is broadcast: rows that read the same x
    follow each other. `order` says which leading axes of the output each plan axis joins.
    """

    rows: tuple[int, ...]
    sizes: tuple[int, ...]
    order: tuple[tuple[int, ...], ...]
    strides: tuple[tuple[int, ...], ...]
    shared_axes: int

    def strides_of(self, shape: tuple[int, ...], stride: tuple[int, ...]) -> tuple[int, ...]:
        """Strides along the plan's axes of another tensor with leading axes `shape`."""
        full = _broadcast_strides(shape, stride, len(self.rows))
        return tuple(full[joined[-1]] for joined in self.order)

    def sum_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Leading shape of the gradient buffer of an operand with leading axes `shape`.

        One place per group where the operand is the same for all rows of it, else one per row.
        """
        own = _aligned(shape, len(self.rows))
        shared = self.order[len(self.order) - self.shared_axes :]
        inner = {axis for joined in shared for axis in joined}
        if any(own[axis] != 1 for axis in inner):
            return self.rows
        return tuple(1 if axis in inner else size for axis, size in enumerate(self.rows))


@lru_cache(maxsize=512)
def plan(
    shapes: tuple[tuple[int, ...], ...],
    strides: tuple[tuple[int, ...], ...],
    group: bool,
    min_groups: int,
) -> Plan | None:
    """Plan for operands with leading axes of these shapes and strides, x first.

    None when more than MAX_AXES axes remain after joining: the caller makes operands contiguous.
    """
    rows = broadcast(shapes)
    x_shape = _aligned(shapes[0], len(rows))
    full = [_broadcast_strides(s, t, len(rows)) for s, t in zip(shapes, strides, strict=True)]
    wide = [axis for axis, size in enumerate(rows) if size != 1]
    outer = [axis for axis in wide if x_shape[axis] != 1]
    inner = [axis for axis in wide if x_shape[axis] == 1]
    if not group or not inner or prod(rows[axis] for axis in outer) < min_groups:
        outer, inner = wide, []
    shared = _join(inner, rows, full)
    order = [*_join(outer, rows, full), *shared]
    if len(order) > MAX_AXES:
        return None
    return Plan(
        rows=rows,
        sizes=tuple(prod(rows[axis] for axis in joined) for joined in order),
        order=tuple(order),
        strides=tuple(tuple(stride[joined[-1]] for joined in order) for stride in full),
        shared_axes=len(shared),
    )


def broadcast(shapes: tuple[tuple[int, ...], ...]) -> tuple[int, ...]:
    """The common leading shape; ValueError where the shapes do not broadcast."""
    rows: list[int] = []
    for sizes in zip(*(_aligned(s, max(map(len, shapes))) for s in shapes), strict=True):
        wide = {size for size in sizes if size != 1}
        if len(wide) > 1:
            raise ValueError(f"leading axes do not broadcast: {[list(s) for s in shapes]}")
        rows.append(wide.pop() if wide else 1)
    return tuple(rows)


def _aligned(shape: tuple[int, ...], ndim: int) -> tuple[int, ...]:
    return (1,) * (ndim - len(shape)) + shape


def _broadcast_strides(
    shape: tuple[int, ...], stride: tuple[int, ...], ndim: int
) -> tuple[int, ...]:
    padded = (0,) * (ndim - len(shape)) + stride
    return tuple(
        0 if size == 1 else step for size, step in zip(_aligned(shape, ndim), padded, strict=True)
    )


def _join(
    axes: list[int], rows: tuple[int, ...], strides: list[tuple[int, ...]]
) -> list[tuple[int, ...]]:
    """Neighbouring axes that every operand, and the contiguous output, steps through as one."""
    joined: list[tuple[int, ...]] = []
    for axis in axes:
        before = joined[-1][-1] if joined else None
        if (
            before is not None
            and all(size == 1 for size in rows[before + 1 : axis])
            and all(s[before] == s[axis] * rows[axis] for s in strides)
        ):
            joined[-1] = (*joined[-1], axis)
        else:
            joined.append((axis,))
    return joined
