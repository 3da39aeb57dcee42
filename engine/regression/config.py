"""Every choice of the response regression, as one frozen record that serialises to JSON.

Numbers learned from data do not live here (see ``state``).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class RegressionConfig:
    """Priors and budgets of the response regression.

    decay        parameters of the Beta prior of each carry-over share.
    log_slope, log_half   mean and standard deviation of the logarithms of Hill's parameters; half
                 saturation is in units of a sender's average.
    effect_share   effects of all senders together at full saturation, as a share of the
                 receiver's level: centre of the prior of effects, divided by their number. Near
                 half saturation it puts media at 30 % of sales, as is usual. A channel that never
                 pauses trades with the baseline, and there the prior decides: on draws of
                 weekly-mmm, weekly-national and weekly-foreign the pooled contribution error is .18
                 at .5, .20 at .8 and .23 at 1.8.
    effect_width   standard deviation of the logarithm of an effect that stores share.
    log_spread   mean and standard deviation of the log relative spread of effects between stores.
    iterations   L-BFGS iterations of a final fit; a candidate gets ``scout`` of them.
    level        whether level shifts may enter the baseline where the evidence asks for them.
    level_odds   log prior odds against a level shift anywhere in a history.
    autoregression   "auto" (by evidence), "none", "errors" or "lag" (see ``fit``).
    sender_scale     "auto" (by evidence), "shared" (one unit of spend means the same in every
                 store) or "store" (relative to each store's average).
    edge_prior   prior probability of channel -> mediator or target and mediator -> target.
    other_prior  prior probability of any other pair.
    draws        joint posterior draws behind every interval.
    """

    decay: tuple[float, float] = (1.0, 3.0)
    log_slope: tuple[float, float] = (0.3, 0.4)
    log_half: tuple[float, float] = (0.0, 0.8)
    effect_share: float = 0.6
    effect_width: float = 1.0
    log_spread: tuple[float, float] = (-1.0, 0.7)
    iterations: int = 300
    scout: int = 40
    level: bool = True
    level_odds: float = 3.0
    autoregression: str = "auto"
    sender_scale: str = "auto"
    edge_prior: float = 0.5
    other_prior: float = 0.05
    draws: int = 200
    seed: int = 0

    def __post_init__(self) -> None:
        choices = {
            "autoregression": ("auto", "none", "errors", "lag"),
            "sender_scale": ("auto", "shared", "store"),
        }
        for name, known in choices.items():
            if getattr(self, name) not in known:
                raise ValueError(f"{name} is one of {known}, got {getattr(self, name)!r}")
        for name in ("edge_prior", "other_prior"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise ValueError(f"{name} is a probability, got {getattr(self, name)}")
        for name in ("iterations", "scout", "draws"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")

    def to_json(self) -> dict[str, Any]:
        """Fields as JSON holds them."""
        return asdict(self)

    @staticmethod
    def from_json(values: dict[str, Any]) -> RegressionConfig:
        """Configuration from :meth:`to_json`; unknown names raise ``TypeError``."""
        arguments: dict[str, Any] = {
            k: tuple(v) if isinstance(v, list) else v for k, v in values.items()
        }
        return RegressionConfig(**arguments)
