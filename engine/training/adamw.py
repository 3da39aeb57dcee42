"""AdamW, fused, on one device.

torch's own class imports its compiler with the first step: 900 modules, which takes longer than a
small fit.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

_BETAS, _EPS = (0.9, 0.999), 1e-8


class AdamW:
    """Adam with decoupled weight decay (Loshchilov & Hutter, 2019): what ``torch.optim.AdamW`` with
    ``fused=True`` computes, bit for bit.

    ``param_groups`` have ``params``, float32 tensors on one device; ``lr``, a number or, in a
    captured graph, a tensor []; and ``weight_decay``. ``state`` has, for every parameter that has
    had a gradient, ``step`` [], ``exp_avg`` and ``exp_avg_sq`` like the parameter.
    """

    def __init__(self, groups: list[dict[str, Any]], lr: float | Tensor) -> None:
        self.param_groups = [{"lr": lr, **group} for group in groups]
        self.state: dict[Tensor, dict[str, Tensor]] = {}

    def parameters(self) -> Iterator[Tensor]:
        for group in self.param_groups:
            yield from group["params"]

    def zero_grad(self) -> None:
        for parameter in self.parameters():
            parameter.grad = None

    @torch.no_grad()
    def step(self) -> None:
        for group in self.param_groups:
            parameters = [p for p in group["params"] if p.grad is not None]
            if not parameters:
                continue
            states = [self.state.get(p) or self._begun(p) for p in parameters]
            steps = [state["step"] for state in states]
            torch._foreach_add_(steps, 1)
            torch._fused_adamw_(
                parameters,
                [p.grad for p in parameters],
                [state["exp_avg"] for state in states],
                [state["exp_avg_sq"] for state in states],
                [],
                steps,
                lr=group["lr"],
                beta1=_BETAS[0],
                beta2=_BETAS[1],
                weight_decay=group["weight_decay"],
                eps=_EPS,
                amsgrad=False,
                maximize=False,
            )

    def _begun(self, parameter: Tensor) -> dict[str, Tensor]:
        self.state[parameter] = {
            "step": torch.zeros((), dtype=torch.float32, device=parameter.device),
            "exp_avg": torch.zeros_like(parameter),
            "exp_avg_sq": torch.zeros_like(parameter),
        }
        return self.state[parameter]

    def state_dict(self) -> dict[str, Any]:
        """The state by the place of its parameter among all."""
        places = enumerate(self.parameters())
        return {"state": {place: self.state[p] for place, p in places if p in self.state}}

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Take over the state of :meth:`state_dict`, on the devices of the parameters."""
        self.state = {
            parameter: {k: v.to(parameter.device).clone() for k, v in saved["state"][place].items()}
            for place, parameter in enumerate(self.parameters())
            if place in saved["state"]
        }
