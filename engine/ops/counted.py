"""Random numbers by key and counter, in integer arithmetic that an exported graph has too.

A number depends on its key and its place alone, so that it is the same in any batch and in an ONNX
file, bit for bit.
"""

from __future__ import annotations

import torch
from torch import Tensor

_PRIME = 2**31 - 1  # products of two residues fit into int64
_ROUNDS = (1_193_920_931, 668_265_263, 374_761_393)  # constants of the rounds, of no meaning
_LEVELS = 2**14  # values that a normal number takes
_BINS = (_PRIME + _LEVELS - 1) // _LEVELS
_HALVES = (torch.arange(_LEVELS, dtype=torch.float64) + 0.5) / _LEVELS
_QUANTILES = torch.special.ndtri(_HALVES)
_NORMALS = _QUANTILES / _QUANTILES.square().mean().sqrt()


def counted(key: Tensor, counter: Tensor) -> Tensor:
    """int64 in [0, 2^31 - 1) for keys and counters, int64 >= 0, that broadcast against each other.

    For each key a permutation of the residues of a prime: x -> (x + key + constant)^5, three times
    (as MiMC: Albrecht et al., 2016); for statistics, not for secrets.
    """
    key, x = key.remainder(_PRIME), counter.remainder(_PRIME)
    for constant in _ROUNDS:
        base = (x + key + constant).remainder(_PRIME)
        square = (base * base).remainder(_PRIME)
        x = ((square * square).remainder(_PRIME) * base).remainder(_PRIME)
    return x


def as_uniform(number: Tensor) -> Tensor:
    """float64 in (0, 1) from :func:`counted` numbers."""
    return (number.to(torch.float64) + 0.5) / _PRIME


def as_normal(number: Tensor) -> Tensor:
    """float64 standard normal, of 16,384 values of equal probability, from such numbers."""
    place = number.to(torch.float64) * (1 / _BINS)
    return _NORMALS[place.to(torch.int64)]
