"""Standard normal draws behind simulated futures, shared by all stores."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

_MAX_Z = 5.0  # no draw lies more standard deviations from zero


@dataclass
class Noise:
    """The standard normal draws behind D futures, the same for every store.

    Draws are antithetic pairs, of which half is stored. All stores share them, so that a store's
    forecast does not depend on its batch. Futures of different stores are therefore not
    independent: intervals of totals over stores cannot be computed from them.

    gates, effects  [N, N, D/2], one of each per edge.
    coefficients    [N, Q, D/2], of the baseline.
    terms           [Q, D/2], deviations of calendar terms from their expectation; only those of
                    controls are used.
    steps, pauses   [H, N, D/2], one-step errors, and switches between zero spend and activity.
    """

    draws: int
    gates: Tensor
    effects: Tensor
    coefficients: Tensor
    terms: Tensor
    steps: Tensor
    pauses: Tensor

    def mirrored(self, half: Tensor) -> Tensor:
        """All D draws [..., D] from the stored half [..., D/2]."""
        return torch.cat([half, -half], dim=-1)[..., : self.draws]


def draw_noise(
    nodes: int, terms: int, horizon: int, *, draws: int, seed: int, device: torch.device
) -> Noise:
    """Noise of ``draws`` futures; a longer horizon appends to the steps of a shorter one.

    Every number is stratified over the draws (one value in each of D equal parts of the normal
    distribution), since all stores share them and would otherwise share their sampling error.
    """
    generator = torch.Generator(device=device).manual_seed(seed)
    half = (draws + 1) // 2

    def normal(*shape: int) -> Tensor:
        uniform = torch.rand((3, half, *shape), generator=generator, device=device)
        magnitude = (uniform[0].argsort(0) + uniform[1]) / half
        magnitude = torch.special.ndtri(0.5 + 0.5 * magnitude).clamp_max(_MAX_Z)
        signed = torch.where(uniform[2] < 0.5, -magnitude, magnitude)
        return signed.movedim(0, -1).contiguous()

    gates, effects = normal(nodes, nodes), normal(nodes, nodes)
    coefficients, control_terms = normal(nodes, terms), normal(terms)
    per_step = [(normal(nodes), normal(nodes)) for _ in range(horizon)]
    steps, pauses = (torch.stack(draws_of) for draws_of in zip(*per_step, strict=True))
    return Noise(draws, gates, effects, coefficients, control_terms, steps, pauses)
