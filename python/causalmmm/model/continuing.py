"""Fits that continue an earlier one: what must agree, and the weights that are taken over."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import fields
from typing import TYPE_CHECKING, Any

import torch

from causalmmm.data.panel import Panel
from causalmmm.engine.nn.model import CausalModel
from causalmmm.engine.spec.config import ModelConfig
from causalmmm.findings import Finding, ModelError

if TYPE_CHECKING:
    from causalmmm.model.estimator import CausalMMM

_REMEDY = "Fit without init_model (--from), or with the series and parameters of the earlier fit."


def check_start(start: CausalMMM, asked: ModelConfig, holidays: str | None, panel: Panel) -> None:
    """Raise ``ModelError``, with a finding for every difference, unless the model ``start`` can go
    on with this panel and these parameters; stores and dates may differ."""
    differing = list(_differences(start, asked, holidays, panel))
    if differing:
        raise ModelError(
            [
                Finding(
                    "error",
                    "other-model",
                    f"The fit cannot go on from the earlier model: {name} {before!r} there, "
                    f"{now!r} here.",
                    _REMEDY,
                    column=name,
                )
                for name, before, now in differing
            ]
        )


def _differences(
    start: CausalMMM, asked: ModelConfig, holidays: str | None, panel: Panel
) -> Iterator[tuple[str, Any, Any]]:
    """Name, earlier and present value of everything that must agree and does not."""
    pairs: dict[str, tuple[Any, Any]] = {
        "regime": (start.regime_, "amortised"),
        "series": (list(start.nodes_), list(panel.nodes)),
        "roles": (tuple(start.roles_), tuple(panel.data.roles)),
        "controls": (list(start.control_names_), list(panel.control_names)),
        "context": (list(start.context_names_), list(panel.context_names)),
        "freq": (start.calendar_.freq, panel.data.freq),
        "holidays": (start.calendar_.country, holidays),
    }
    for name, (before, now) in pairs.items():
        if before != now:
            yield name, before, now
    if start.regime_ != "amortised":
        return
    for field in fields(ModelConfig):
        before, now = getattr(start.config_, field.name), getattr(asked, field.name)
        if field.name != "prior" and before != now:
            yield field.name, before, now


@torch.no_grad()
def take_weights(model: CausalModel, start: CausalModel) -> None:
    """Give ``model`` what ``start`` has learned; what the user knows beforehand stays its own."""
    learned = dict(start.named_parameters())
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            parameter.copy_(learned[name])


def weights_digest(model: CausalModel) -> str:
    """A digest of the weights, 32 hexadecimal digits: part of the identity of a run."""
    digest = hashlib.blake2b(digest_size=16)
    for tensor in model.state_dict().values():
        digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
