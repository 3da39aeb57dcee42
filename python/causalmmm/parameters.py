"""Parameters of ``CausalMMM`` outside Python: as JSON and YAML hold them, checked by name and type.

What the parameters mean is said in ``causalmmm.estimator``.
"""

from __future__ import annotations

import inspect
import typing
from collections.abc import Mapping
from typing import Any

import numpy as np
from pydantic import ConfigDict, ValidationError, create_model

from causalmmm.findings import ConfigError, Finding


def parameter_names() -> list[str]:
    """The constructor's parameters, in its order."""
    from causalmmm.estimator import CausalMMM

    return list(CausalMMM().get_params())


def check_parameters(values: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters out of a YAML file as the constructor takes them.

    Pairs are lists of two names, ``edge_prior`` is {source: {target: probability}}. Raises
    ``ConfigError`` that names every key whose value is of another type or out of range.
    """
    from causalmmm.estimator import CausalMMM

    hints = typing.get_type_hints(CausalMMM.__init__)
    signature = inspect.signature(CausalMMM.__init__).parameters
    fields: dict[str, Any] = {
        name: (hints[name], parameter.default)
        for name, parameter in signature.items()
        if name != "self"
    }
    config = ConfigDict(extra="forbid", protected_namespaces=())
    kind = create_model("Parameters", __config__=config, **fields)
    _check_nesting(values.get("edge_prior"))
    given = parameters_from_json(values)
    try:
        checked = kind.model_validate(given).model_dump(include=set(given))
        model = CausalMMM(**checked)
        model.model_config()
        model.train_config()
        for name in ("horizon", "draws"):
            if checked.get(name, 1) < 1:
                raise ValueError(f"{name} must be at least 1, got {checked[name]}")
    except ValidationError as error:
        raise ConfigError([_finding(item) for item in error.errors()]) from None
    except (TypeError, ValueError) as error:
        remedy = "Correct the section 'model', or the option that sets it."
        raise ConfigError([Finding("error", "invalid-value", f"{error}.", remedy)]) from None
    return checked


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
