"""A fitted model as one directory: ``model.safetensors`` (weights) and ``model.json`` (the rest).

Nothing is pickled. What is read is checked before any of it is used; what is written appears whole
or not at all.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as tensor_bytes
from torch import Tensor

from causalmmm.data.schema import Schema
from causalmmm.engine.nn.model import CausalModel
from causalmmm.engine.nn.posterior import edge_log_prior
from causalmmm.engine.nn.pretrained import PretrainedGraphs
from causalmmm.engine.prior import (
    PanelKind,
    empty_familiarity,
    empty_network,
    give_innovations_no_weight,
)
from causalmmm.engine.regression import Regression
from causalmmm.engine.spec.calendar import CalendarSpec, period_of
from causalmmm.engine.spec.config import ModelConfig, from_json
from causalmmm.extras import package_version
from causalmmm.files import atomic_directory
from causalmmm.findings import Finding, ModelError, RefusedInput, closest, first_line
from causalmmm.model.fitted import FittedModel
from causalmmm.model.header import (
    FORMAT,
    HEADER,
    KIND,
    TENSORS_OF_FORMAT_1,
    WEIGHTS,
    check_place,
    digest,
    header_text,
    read_header,
    refuse,
)
from causalmmm.model.parameters import (
    parameter_names,
    parameters_from_json,
    parameters_to_json,
)
from causalmmm.model.priors import spend_series


def save(
    model: FittedModel,
    directory: str | Path,
    *,
    overwrite: bool = False,
) -> Path:
    """Write a fitted model to a new directory and return its path.

    directory  must not exist; with ``overwrite`` it may be a model directory, which is replaced.

    The files are written to a temporary directory beside it that is then renamed, so that a model
    directory is complete whenever it is there. Raises ``ModelError`` when the place is taken.
    """
    target = Path(directory)
    check_place(target, overwrite)
    settings = None
    if isinstance(model.model_, Regression):
        weights, settings = model.model_.state()
    else:
        weights = {k: v.detach().cpu().contiguous() for k, v in model.model_.state_dict().items()}
    content = tensor_bytes(weights)
    facts = _header(model, weights, settings)
    if model.source_ is not None and not model.source_["absolute"]:
        relative = os.path.relpath(model.source_["path"], target.resolve())
        facts["source"] = {**model.source_, "path": relative}
    facts["files"] = {WEIGHTS: {"bytes": len(content), "digest": digest(content)}}
    with atomic_directory(target) as partial:
        (partial / WEIGHTS).write_bytes(content)
        (partial / HEADER).write_text(header_text(facts), encoding="utf-8")
    return target


@dataclass(frozen=True)
class SavedModel:
    """What a model directory holds, checked; ``parameters`` are those of the estimator."""

    parameters: dict[str, Any]
    config: ModelConfig
    calendar: CalendarSpec
    schema: Schema
    nodes: list[str]
    roles: tuple[str, ...]
    context_names: list[str]
    control_names: list[str]
    model: CausalModel | Regression
    history: pd.DataFrame
    trained_on: dict[str, Any]
    warnings: list[str]  # none in a model saved before they were kept
    source: dict[str, Any] | None

    @property
    def regime(self) -> str:
        """ "amortised" or "regression"."""
        return "regression" if isinstance(self.model, Regression) else "amortised"


def read(directory: str | Path) -> SavedModel:
    """The content of a directory that ``save`` wrote; tensors are on the CPU.

    Raises ``ModelError`` naming the file and everything in it that is missing, cut off, of another
    shape, or written by a newer version.
    """
    folder = Path(directory)
    header = read_header(folder)
    try:
        return _assembled(folder, header)
    except RefusedInput:
        raise
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, RuntimeError) as e:
        raise refuse(
            "unreadable-model",
            f"'{folder / HEADER}' does not describe a model that can be built: {first_line(e)}.",
            f"It was written by causalmmm {header.get('version')}; save the model again.",
        ) from None


def _assembled(folder: Path, header: dict[str, Any]) -> SavedModel:
    """The model of a header, whose values may be anything that JSON holds."""
    nodes, roles = list(header["nodes"]), tuple(header["roles"])
    context_names = list(header["context"])
    try:
        parameters = parameters_from_json(header["parameters"])
        if unknown := sorted(set(parameters) - set(parameter_names())):
            raise ValueError(f"unknown parameters {unknown}")
        config = from_json(ModelConfig, header["config"])
        calendar = CalendarSpec(**parameters_from_json(header["calendar"]))
        schema = Schema.check(header["schema"])
    except (TypeError, ValueError) as error:
        raise refuse(
            "unreadable-model",
            f"'{folder / HEADER}' holds settings that this version does not know: {error}.",
            f"It was written by causalmmm {header.get('version')}; use that version.",
        ) from None
    model: CausalModel | Regression
    if header.get("regression"):
        weights = _read_weights(folder, header, _listed(header["tensors"]))
        model = Regression.from_state(weights, header["regression"])
    else:
        model = CausalModel(
            config,
            calendar.groups,
            len(context_names),
            torch.zeros(len(nodes), len(nodes), dtype=torch.bool),
            edge_log_prior(torch.full((len(nodes), len(nodes)), 0.5)),
            spend_series(roles),
            _pretrained(config, roles, calendar, header["tensors"]),
        ).eval()
        model.load_state_dict(_read_weights(folder, header, model.state_dict()))
        if model.pretrained is not None:
            give_innovations_no_weight(model.pretrained.network, model.pretrained.familiarity)
    return SavedModel(
        parameters=parameters,
        config=config,
        calendar=calendar,
        schema=schema,
        nodes=nodes,
        roles=roles,
        context_names=context_names,
        control_names=list(header["controls"]),
        model=model,
        history=pd.DataFrame(header["history"]),
        trained_on=header["trained_on"],
        warnings=[str(text) for text in header.get("warnings", [])],
        source=_located(header.get("source"), folder),
    )


def _pretrained(
    config: ModelConfig, roles: tuple[str, ...], calendar: CalendarSpec, tensors: Mapping[str, Any]
) -> PretrainedGraphs | None:
    """What reads the graphs of a model with pretrained structure, of the sizes that were saved."""
    if config.structure != "pretrained":
        return None
    first, directions = (
        tensors.get(f"pretrained.{name}", {}).get("shape", [2, 2])
        for name in ("network.read.0.weight", "familiarity.directions")
    )
    signs = torch.zeros(len(roles), len(roles), dtype=torch.bool)
    kind = PanelKind(roles, period_of(calendar.freq), signs)
    parts = empty_network(first), empty_familiarity(directions)
    return PretrainedGraphs(kind, calendar.groups, *parts)


def _header(
    model: FittedModel, weights: Mapping[str, Tensor], regression: dict[str, Any] | None
) -> dict[str, Any]:
    import dataclasses

    history = [
        {k: None if isinstance(v, float) and not np.isfinite(v) else v for k, v in row.items()}
        for row in model.history_.to_dict("records")
    ]
    return {
        "kind": KIND,
        "format": FORMAT,
        "version": package_version(),
        "parameters": parameters_to_json(model.get_params()),
        "config": dataclasses.asdict(model.config_),
        "schema": model.schema_.model_dump(mode="json"),
        "nodes": list(model.nodes_),
        "roles": list(model.roles_),
        "context": list(model.context_names_),
        "controls": list(model.control_names_),
        "calendar": dataclasses.asdict(model.calendar_),
        "trained_on": dict(model.trained_on_),
        "warnings": list(model.warnings_),
        "source": model.source_,
        "regression": regression,
        "history": history,
        "tensors": {k: {"shape": list(v.shape), "dtype": str(v.dtype)} for k, v in weights.items()},
    }


def _located(source: dict[str, Any] | None, folder: Path) -> dict[str, Any] | None:
    """Where the data of the fit are: the header has their path relative to the model.

    Formats 1 and 2 have absolute paths and know of no holdout.
    """
    if source is None:
        return None
    path = os.path.normpath(folder.resolve() / source["path"])
    return {"holdout": None, "absolute": True, **source, "path": path}


def _listed(tensors: Mapping[str, Any]) -> dict[str, Tensor]:
    """Tensors without content, as a header lists them."""
    return {
        name: torch.empty(
            spec["shape"], dtype=getattr(torch, spec["dtype"].removeprefix("torch.")), device="meta"
        )
        for name, spec in tensors.items()
    }


def _read_weights(
    folder: Path, header: Mapping[str, Any], expected: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """The tensors of the file, which must be those of the header and fit the model."""
    path, listed = folder / WEIGHTS, header["tensors"]
    if not path.is_file():
        raise refuse(
            "missing-weights",
            f"'{folder}' has no {WEIGHTS}: the model is not complete.",
            "Copy the whole directory, or save the model again.",
        )
    content = _content(path, header.get("files"))
    try:
        stored = load_tensors(content)
    except (SafetensorError, ValueError, OverflowError) as error:
        raise refuse(
            "truncated-weights",
            f"'{path}' ({len(content)} bytes) cannot be read, it is cut off or damaged: {error}.",
            "Copy the file again, or save the model again.",
        ) from None
    found = {TENSORS_OF_FORMAT_1.get(name, name): tensor for name, tensor in stored.items()}
    findings = []
    for name in sorted({*expected, *listed, *found}):
        if name not in expected:
            told = f"Tensor '{name}' is no part of this model. {closest(name, expected)}".rstrip()
        elif name not in found:
            told = f"Tensor '{name}' is missing from '{path}'."
        elif name not in listed:
            told = f"Tensor '{name}' is not listed in '{folder / HEADER}'."
        else:
            told = _misfit(name, found[name], listed[name], expected[name])
        if told:
            remedy = "The two files do not belong together, or are of another version: save again."
            findings.append(Finding("error", "wrong-weights", told, remedy, column=name))
    if findings:
        raise ModelError(findings)
    return found


def _content(path: Path, files: Any) -> bytes:
    """The bytes of the weights, checked against size and digest in the header (since format 3)."""
    size = path.stat().st_size
    if files is None:
        return path.read_bytes()
    known = files[WEIGHTS]
    if size != known["bytes"]:  # before so much is read
        raise refuse(
            "truncated-weights",
            f"'{path}' has {size} bytes, but was saved with {known['bytes']}: it is cut off, or "
            "the weights of another fit.",
            "Copy the whole directory again, or save the model again.",
        )
    content = path.read_bytes()
    if digest(content) != known["digest"]:
        raise refuse(
            "wrong-weights",
            f"'{path}' is damaged, or holds the weights of another fit: its digest is not the one "
            f"in {HEADER}.",
            "Copy the whole directory again, or save the model again.",
        )
    return content


def _misfit(name: str, found: Tensor, listed: Any, expected: Tensor) -> str:
    """What keeps a tensor out of its place, or nothing."""
    shape, dtype = list(found.shape), str(found.dtype)
    for who, want_shape, want_dtype in (
        ("the model needs", list(expected.shape), str(expected.dtype)),
        (f"{HEADER} lists", listed.get("shape"), listed.get("dtype")),
    ):
        if (shape, dtype) != (want_shape, want_dtype):
            return f"Tensor '{name}' is {dtype} {shape}; {who} {want_dtype} {want_shape}."
    return ""
