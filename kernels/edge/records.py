"""Arguments of the edge operators, defined once: names, order, types, shapes, and their check.

Every implementation takes these records, and torch's flat schemas are derived from them. No
arithmetic here.
Letters of a shape: B stores, N nodes, H hidden width, F features, K edge types.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, NamedTuple, TypeVar, get_type_hints

import torch
from torch import Tensor


class FirstPass(NamedTuple):
    """Of the first pass: e_ij = LN(elu(w2 elu(sender1_i + receiver1_j + wf f_ij) + b2))."""

    sender1: Annotated[Tensor, "BNH"]
    receiver1: Annotated[Tensor, "BNH"]
    w2: Annotated[Tensor, "HH"]
    b2: Annotated[Tensor, "H"]
    features: Annotated[Tensor | None, "BNNF"]
    wf: Annotated[Tensor | None, "HF"]

    def of(self, stores: slice) -> FirstPass:
        """The same for some of the stores."""
        sender, receiver = self.sender1[stores], self.receiver1[stores]
        features = None if self.features is None else self.features[stores]
        return self._replace(sender1=sender, receiver1=receiver, features=features)


class SecondPass(NamedTuple):
    """Of the second pass, which gives each edge the network's part of its logits:

    wo LN(elu(w4 elu(sender2_i + receiver2_j + w3 e_ij) + b4)) + bo
    """

    sender2: Annotated[Tensor, "BNH"]
    receiver2: Annotated[Tensor, "BNH"]
    w3: Annotated[Tensor, "HH"]
    w4: Annotated[Tensor, "HH"]
    b4: Annotated[Tensor, "H"]
    wo: Annotated[Tensor, "KH"]
    bo: Annotated[Tensor, "K"]

    def of(self, stores: slice) -> SecondPass:
        """The same for some of the stores."""
        return self._replace(sender2=self.sender2[stores], receiver2=self.receiver2[stores])


class Kept(NamedTuple):
    """What the first pass keeps of every edge, so that it need not be computed again.

    states      e [B, N, N, H] (sender, receiver), finite on self pairs but without meaning there
    moments     [B, N, N, 2], mean of what LayerNorm made e from and 1 / its standard deviation (0
                on self pairs, or finite), in float32, or float64 where e is
    """

    states: Tensor
    moments: Tensor

    @staticmethod
    def empty(sender: Tensor) -> Kept:
        """Uninitialised, for the stores of sender [B, N, H]."""
        batch, nodes, width = sender.shape
        return Kept(
            sender.new_empty(batch, nodes, nodes, width),
            sender.new_empty(batch, nodes, nodes, 2, dtype=_moments_dtype(sender)),
        )

    @staticmethod
    def nothing(sender: Tensor) -> Kept:
        """Of no elements: nothing is kept."""
        return Kept(sender.new_empty(0), sender.new_empty(0, dtype=_moments_dtype(sender)))

    def of(self, stores: slice) -> Kept:
        """The same for some of the stores."""
        return Kept(self.states[stores], self.moments[stores])


def _moments_dtype(x: Tensor) -> torch.dtype:
    return torch.float64 if x.dtype == torch.float64 else torch.float32


class Draw(NamedTuple):
    """Of the sample: z = softmax((log_prior + network's logits + gumbel) / temperature)."""

    log_prior: Annotated[Tensor, "NNK", "BNNK"]
    temperature: Annotated[Tensor, ""]
    seed: Annotated[Tensor | None, ""]  # int64; None for no noise
    store: Annotated[Tensor, "B"]  # int64
    hard: bool

    def of(self, stores: slice) -> Draw:
        """The same for some of the stores."""
        prior = self.log_prior[stores] if self.log_prior.ndim == 4 else self.log_prior
        return self._replace(log_prior=prior, store=self.store[stores])


Record = TypeVar("Record", FirstPass, SecondPass, Kept, Draw)

# Shapes that a field may have, by number of axes.
_SHAPES: dict[str, dict[int, str]] = {
    name: {len(axes): axes for axes in getattr(hint, "__metadata__", ())}
    for record in (FirstPass, SecondPass, Draw)
    for name, hint in get_type_hints(record, include_extras=True).items()
}
_AT_LEAST_TWO = {"N": "nodes", "K": "edge types"}
_SCHEMA_TYPES: dict[Any, str] = {Tensor: "Tensor", Tensor | None: "Tensor?", bool: "bool"}


def each(change: Callable[[Tensor], Tensor], record: Record) -> Record:
    """The record with `change` applied to each of its tensors."""
    return type(record)._make(change(x) if isinstance(x, Tensor) else x for x in record)


def schema(*records: type) -> str:
    """Fields of the records, as arguments in torch's schema language."""
    hints = [hint for record in records for hint in get_type_hints(record).items()]
    return ", ".join(f"{_SCHEMA_TYPES[kind]} {name}" for name, kind in hints)


def check(operator: str, first: FirstPass, *rest: SecondPass | Draw) -> None:
    """Raise ValueError unless all shapes fit together; a letter stands for one size everywhere."""
    if (first.features is None) != (first.wf is None):
        raise ValueError(f"{operator}: features and wf must be given together")
    sizes: dict[str, int] = {}
    for record in (first, *rest):
        for field, value in zip(record._fields, record, strict=True):
            if not isinstance(value, Tensor):
                continue
            name = field if rest else field.removesuffix("1")
            shapes = _SHAPES[field]
            axes = shapes.get(value.ndim, "")
            fits = value.ndim in shapes
            for axis, size in zip(axes, value.shape, strict=False):
                if axis in _AT_LEAST_TWO and size < 2:
                    minimum = f"at least 2 {_AT_LEAST_TWO[axis]} are needed"
                    raise ValueError(f"{operator}: {minimum}, {name} has {list(value.shape)}")
                fits = fits and sizes.setdefault(axis, size) == size
            if not fits:
                axes = axes or next(iter(shapes.values()))
                expected = ", ".join(str(sizes.get(axis, axis)) for axis in axes)
                actual = list(value.shape)
                raise ValueError(f"{operator}: {name} must have shape [{expected}], got {actual}")
