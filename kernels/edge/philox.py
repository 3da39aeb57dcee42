"""Counter-based noise of the edges: Philox4x32-10 in integer PyTorch, on any device.

The noise of an edge depends on (seed, store, i, j) alone, not on the batch, its order or device.
Nothing but random numbers here; the kernels draw the same ones in their own code.
Salmon et al. (2011), "Parallel random numbers: as easy as 1, 2, 3", section 3.3.

    key      (low, high) 32 bits of the seed
    counter  (low, high) 32 bits of the store id, i * 2^16 + j, k // 4
    word     number k % 4 of the four that come out belongs to edge type k
"""

from __future__ import annotations

import torch
from torch import Tensor

MAX_NODES = 1 << 16  # sender and receiver share one 32-bit counter word

_MASK = 0xFFFFFFFF
_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
_WEYL = (0x9E3779B9, 0xBB67AE85)
_ROUNDS = 10


def edge_noise(
    seed: int | Tensor,
    store: Tensor,
    nodes: int,
    types: int,
    *,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """Standard Gumbel draws [B, N, N, K] for all ordered pairs of all stores (diagonal included).

    Args:
        seed: integer, taken modulo 2^64, or an integer tensor of one element.
        store: int64 [B], global store ids.
        nodes, types: N (at most 65536) and K.
        dtype: float32 or float64; both start from the same 23 random bits.
    """
    words = edge_words(seed, store, nodes, types)
    return gumbel(words, dtype)


def edge_words(seed: int | Tensor, store: Tensor, nodes: int, types: int) -> Tensor:
    """The random words behind :func:`edge_noise`: int64 [B, N, N, K] holding 32-bit values."""
    if not 0 < nodes <= MAX_NODES:
        raise ValueError(f"edge noise: the number of nodes must be 1..{MAX_NODES}, got {nodes}")
    row = torch.arange(nodes, dtype=torch.int64, device=store.device)
    pair = (row[:, None] << 16) + row
    store = store[:, None, None]
    words: list[Tensor] = []
    for block in range(-(-types // 4)):
        words += philox((store & _MASK, (store >> 32) & _MASK, pair, block), _key(seed))
    return torch.stack([word.expand(len(store), nodes, nodes) for word in words[:types]], dim=-1)


def gumbel(words: Tensor, dtype: torch.dtype) -> Tensor:
    """-log(-log u), u = (top 23 bits + 1/2) / 2^23: exact in float32 and inside (0, 1)."""
    uniform = ((words >> 9).to(dtype) + 0.5) * 2.0**-23
    return -torch.log(-torch.log(uniform))


def philox(
    counter: tuple[Tensor | int, Tensor | int, Tensor | int, Tensor | int],
    key: tuple[Tensor | int, Tensor | int],
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Four 32-bit words (held in int64) for each counter.

    int64 products wrap modulo 2^64, so shift and mask recover both halves of the 64-bit product.
    """
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for step in range(_ROUNDS):
        if step:
            k0, k1 = (k0 + _WEYL[0]) & _MASK, (k1 + _WEYL[1]) & _MASK
        first, second = c0 * _MULTIPLIERS[0], c2 * _MULTIPLIERS[1]
        c0, c1 = ((second >> 32) & _MASK) ^ c1 ^ k0, second & _MASK
        c2, c3 = ((first >> 32) & _MASK) ^ c3 ^ k1, first & _MASK
    return c0, c1, c2, c3  # type: ignore[return-value]  # tensors after the first round


def _key(seed: int | Tensor) -> tuple[Tensor | int, Tensor | int]:
    if isinstance(seed, Tensor):
        seed = seed.to(torch.int64).reshape(())
    return seed & _MASK, (seed >> 32) & _MASK
