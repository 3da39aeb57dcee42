"""Parameters of ``CausalMMM`` outside Python: as JSON and YAML hold them, checked by name and type.

What the parameters mean is said in ``causalmmm.model.estimator``.
"""

from __future__ import annotations

import typing
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from pydantic import ConfigDict, ValidationError, create_model

from causalmmm.engine.spec.config import ModelConfig, TrainConfig
from causalmmm.findings import ConfigError, Finding

# Those that neither part of ``engine.spec.config`` has.
_OWN: dict[str, Any] = {
    "regime": typing.Literal["auto", "amortised", "regression"],
    "horizon": int | None,
    "edge_prior": Mapping[tuple[str, str], float] | None,
    "forbidden": Sequence[tuple[str, str]],
    "required": Sequence[tuple[str, str]],
    "signed": Sequence[tuple[str, str]],
    "reactive": Sequence[str],
    "holidays": str | None,
    "draws": int,
    "seed": int,
    "device": str,
    "deterministic": bool,
}


def parameter_names() -> list[str]:
    """The parameters of ``CausalMMM``."""
    return list(_types())


def check_parameters(values: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters out of a YAML file as the constructor takes them.

    Pairs are lists of two names, ``edge_prior`` is {source: {target: probability}}. Raises
    ``ConfigError`` that names every key whose value is of another type or out of range.
    """
    config = ConfigDict(extra="forbid", protected_namespaces=())
    fields: dict[str, Any] = {name: (kind, None) for name, kind in _types().items()}
    kind = create_model("Parameters", __config__=config, **fields)
    _check_nesting(values.get("edge_prior"))
    given = parameters_from_json(values)
    try:
        checked = kind.model_validate(given).model_dump(include=set(given))
        settled = {k: v for k, v in checked.items() if (k, v) != ("structure", "auto")}
        for part in (ModelConfig, TrainConfig):
            names = typing.get_type_hints(part)
            part(**{name: value for name, value in settled.items() if name in names})
        for name in ("horizon", "draws"):
            number = checked.get(name)
            if number is not None and number < 1:
                raise ValueError(f"{name} must be at least 1, got {number}")
    except ValidationError as error:
        raise ConfigError([_finding(item) for item in error.errors()]) from None
    except (TypeError, ValueError) as error:
        remedy = "Correct the section 'model', or the option that sets it."
        raise ConfigError([Finding("error", "invalid-value", f"{error}.", remedy)]) from None
    return checked


def model_config(values: Mapping[str, Any]) -> ModelConfig:
    """The shape of a model with these checked parameters, before its structure is chosen."""
    names = typing.get_type_hints(ModelConfig)
    settled = {k: v for k, v in values.items() if k in names and (k, v) != ("structure", "auto")}
    return ModelConfig(**settled)


def _types() -> dict[str, Any]:
    parts = (ModelConfig, TrainConfig)
    return _OWN | {
        name: kind for part in parts for name, kind in typing.get_type_hints(part).items()
    }


def _check_nesting(prior: Any) -> None:
    nested = isinstance(prior, Mapping) and all(isinstance(v, Mapping) for v in prior.values())
    if prior is not None and not nested:
        message = f"Key 'model.edge_prior' holds {prior!r}."
        remedy = "Write {source: {target: probability}}."
        found = Finding("error", "invalid-value", message, remedy, column="model.edge_prior")
        raise ConfigError([found])


def _finding(item: Any) -> Finding:
    place = ".".join(str(part) for part in item["loc"])
    message = f"Key 'model.{place}': {item['msg']}, got {item['input']!r}."
    remedy = f"Correct the value of '{item['loc'][0]}'." if item["loc"] else "Correct the value."
    return Finding("error", "invalid-value", message, remedy, column=f"model.{place}")


def parameters_to_json(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters of ``CausalMMM`` as JSON holds them; pairs become lists, ``edge_prior`` nests."""
    plain: dict[str, Any] = {}
    for name, value in parameters.items():
        if name == "edge_prior" and value is not None:
            nested: dict[str, dict[str, float]] = {}
            for (source, target), probability in value.items():
                nested.setdefault(source, {})[target] = float(probability)
            plain[name] = nested
        elif isinstance(value, (list, tuple)):
            plain[name] = [list(v) if isinstance(v, (list, tuple)) else v for v in value]
        else:
            plain[name] = value.item() if isinstance(value, np.generic) else value
    return plain


def parameters_from_json(plain: Mapping[str, Any]) -> dict[str, Any]:
    """The inverse of ``parameters_to_json``, also for what a YAML file holds."""
    parameters: dict[str, Any] = {}
    for name, value in plain.items():
        if name == "edge_prior" and isinstance(value, Mapping):
            parameters[name] = {
                (source, target): probability
                for source, below in value.items()
                for target, probability in below.items()
            }
        elif isinstance(value, list):
            parameters[name] = tuple(tuple(v) if isinstance(v, list) else v for v in value)
        else:
            parameters[name] = value
    return parameters
