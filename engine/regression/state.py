"""What a fitted response regression knows, and its form on disk: plain tensors and JSON.

Nothing here is of a particular store; those answers are in ``posterior``.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any

import torch
from torch import Tensor

from causalmmm.engine.regression.combined_edges import CombinedEdges
from causalmmm.engine.regression.config import RegressionConfig
from causalmmm.engine.regression.design import Layout


@dataclass(frozen=True)
class Receiver:
    """Fitted regression of one receiver.

    shared_scale, own_lag, rho, warm  what was decided (see ``fit.Choice``);
    theta [K], and posterior draws of it [D, K] (see ``ThetaSpec``), [1, K] without fitted shapes;
    effect_mean, effect_sd, log_odds  [n], slab and prior log odds of every sender;
    shift_begin, shift_end int64 [L], shift_scale [L]: level shifts that all stores have.
    report  log evidence of what was compared.
    """

    senders: tuple[int, ...]
    shared_scale: bool
    own_lag: bool
    rho: float
    warm: float
    theta: Tensor
    theta_draws: Tensor
    effect_mean: Tensor
    effect_sd: Tensor
    log_odds: Tensor
    shift_begin: Tensor
    shift_end: Tensor
    shift_scale: Tensor
    report: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Calibration:
    """What experiments say of the joint draws.

    pool         how many draws of the posterior were weighed;
    index        int64 [D], those that agree with the experiments, some more than once;
    factor       [D, N], multiplies the effects that leave a node: what the panel has wrong there;
    experiments  their table, a record each, as JSON holds it.
    """

    pool: int
    index: Tensor
    factor: Tensor
    experiments: list[dict[str, Any]]


@dataclass(frozen=True)
class Regression:
    """Fitted receivers of a panel; ``reference`` [N] is the scale of series that stores share.

    ``edges`` combine its probabilities of edges with the pretrained prior's; without, they stay its
    own.
    """

    config: RegressionConfig
    layout: Layout
    groups: tuple[str, ...]
    reference: Tensor
    receivers: dict[int, Receiver]
    calibration: Calibration | None = None
    edges: CombinedEdges | None = None

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Tensors by name, and the rest as JSON holds it."""
        tensors = {
            "reference": self.reference,
            "layout.prior": self.layout.prior,
            "layout.instant": self.layout.instant,
            "layout.positive": self.layout.positive,
        }
        settings: dict[str, Any] = {
            "config": self.config.to_json(),
            "groups": list(self.groups),
            "rank": list(self.layout.rank),
            "receivers": {},
        }
        for node, receiver in self.receivers.items():
            parts = {f.name: getattr(receiver, f.name) for f in fields(receiver)}
            held = {k: v for k, v in parts.items() if isinstance(v, Tensor)}
            tensors |= {f"receiver.{node}.{name}": value for name, value in held.items()}
            rest = {k: v for k, v in parts.items() if k not in held}
            settings["receivers"][str(node)] = rest | {"senders": list(receiver.senders)}
        if self.calibration is not None:
            tensors["calibration.index"] = self.calibration.index
            tensors["calibration.factor"] = self.calibration.factor
            settings["calibration"] = {
                "pool": self.calibration.pool,
                "experiments": self.calibration.experiments,
            }
        if self.edges is not None:
            held, settings["edges"] = self.edges.state()
            tensors |= {f"edges.{name}": tensor for name, tensor in held.items()}
        return {name: tensor.contiguous() for name, tensor in tensors.items()}, settings

    @staticmethod
    def from_state(tensors: dict[str, Tensor], settings: dict[str, Any]) -> Regression:
        """The regression that :meth:`state` described."""
        plan = Layout(
            tensors["layout.prior"],
            tensors["layout.instant"],
            tensors["layout.positive"],
            tuple(settings["rank"]),
        )
        receivers = {}
        for node, rest in settings["receivers"].items():
            begin = f"receiver.{node}."
            parts: dict[str, Any] = rest | {"senders": tuple(rest["senders"])}
            parts |= {k.removeprefix(begin): v for k, v in tensors.items() if k.startswith(begin)}
            receivers[int(node)] = Receiver(**parts)
        config = RegressionConfig.from_json(settings["config"])
        calibration = None
        if held := settings.get("calibration"):
            drawn = (tensors["calibration.index"], tensors["calibration.factor"])
            calibration = Calibration(held["pool"], *drawn, held["experiments"])
        groups, edges = tuple(settings["groups"]), None
        if combined := settings.get("edges"):
            begin = "edges."
            parts = {k.removeprefix(begin): v for k, v in tensors.items() if k.startswith(begin)}
            edges = CombinedEdges.from_state(parts, combined, groups)
        reference = tensors["reference"]
        return Regression(config, plan, groups, reference, receivers, calibration, edges)


def same(one: Regression, other: Regression) -> bool:
    """Whether two regressions are the same to the last bit."""
    first, second = one.state(), other.state()
    return first[1] == second[1] and all(
        torch.equal(first[0][name], second[0][name]) for name in first[0]
    )
