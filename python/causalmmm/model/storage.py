"""A fitted model as one directory: ``model.safetensors`` (weights) and ``model.json`` (the rest).

Nothing is pickled. What is read is checked before any of it is used; what is written appears whole
or not at all.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from causalmmm.extras import needing
from causalmmm.files import atomic_directory
from causalmmm.findings import Finding, ModelError, RefusedInput, closest, refusal
from causalmmm.model.parameters import parameters_from_json, parameters_to_json

if TYPE_CHECKING:
    from torch import Tensor

    from causalmmm.data.panel import Panel
    from causalmmm.model.estimator import CausalMMM

FORMAT = 1
KIND = "causalmmm model"
HEADER, WEIGHTS = "model.json", "model.safetensors"
_KEYS = {
    "parameters": dict,
    "config": dict,
    "schema": dict,
    "nodes": list,
    "roles": list,
    "context": list,
    "controls": list,
    "calendar": dict,
    "history": list,
    "trained_on": dict,
    "tensors": dict,
}


def save(
    model: CausalMMM,
    directory: str | Path,
    *,
    overwrite: bool = False,
) -> Path:
    """Write a fitted model to a new directory and return its path.

    directory  must not exist; with ``overwrite`` it may be a model directory, which is replaced.

    The files are written to a temporary directory beside it that is then renamed, so that a model
    directory is complete whenever it is there. Raises ``ModelError`` when the place is taken.
    """
    from safetensors.torch import save_file

    _refuse_unfitted(model)
    target = Path(directory)
    check_place(target, overwrite)
    weights = {k: v.detach().cpu().contiguous() for k, v in model.model_.state_dict().items()}
    with atomic_directory(target) as partial:
        save_file(weights, partial / WEIGHTS)
        text = json.dumps(_header(model, weights), indent=1, allow_nan=False)
        (partial / HEADER).write_text(text + "\n", encoding="utf-8")
    return target


def load(directory: str | Path, *, device: str | None = None) -> CausalMMM:
    """The model that ``save`` wrote, on ``device`` ("auto", "cpu", "cuda"; None: as it was fitted).

    It holds no data: pass a panel to ``graphs``, ``predict`` and ``evaluate``. Raises
    ``ModelError`` naming the file and everything in it that is missing, cut off, of another shape,
    or written by a newer version.
    """
    import pandas as pd

    with needing("a saved model"):
        import torch

    from causalmmm.data.schema import Schema
    from causalmmm.engine.nn.model import CausalModel, edge_log_prior
    from causalmmm.engine.spec.calendar import CalendarSpec
    from causalmmm.engine.spec.config import ModelConfig, from_json
    from causalmmm.model.estimator import CausalMMM, device_named
    from causalmmm.model.priors import spend_series

    folder = Path(directory)
    header = read_header(folder)
    parameters = parameters_from_json(header["parameters"])
    if device is not None:
        parameters["device"] = device
    if str(parameters.get("device")).startswith("cuda") and not torch.cuda.is_available():
        raise _refuse(
            "no-device",
            f"The model was fitted on '{parameters['device']}', which is not here.",
            'Load it with device="cpu" or device="auto".',
        )
    try:
        model = CausalMMM(**parameters)
        model.config_ = from_json(ModelConfig, header["config"])
        spec: dict[str, Any] = parameters_from_json(header["calendar"])
        model.calendar_ = CalendarSpec(**spec)
        model.schema_ = Schema.check(header["schema"])
    except (TypeError, ValueError) as error:
        raise _refuse(
            "unreadable-model",
            f"'{folder / HEADER}' holds settings that this version does not know: {error}.",
            f"It was written by causalmmm {header.get('version')}; use that version.",
        ) from None
    model.nodes_, model.roles_ = list(header["nodes"]), tuple(header["roles"])
    model.context_names_, model.control_names_ = list(header["context"]), list(header["controls"])
    model.device_ = device_named(str(parameters["device"]))
    module = CausalModel(
        model.config_,
        model.calendar_.groups,
        len(model.context_names_),
        torch.zeros(len(model.nodes_), len(model.nodes_), dtype=torch.bool),
        edge_log_prior(torch.full((len(model.nodes_),) * 2, 0.5)),
        spend_series(model.roles_),
    )
    module.load_state_dict(_weights(folder, header["tensors"], module.state_dict()))
    model.model_ = module.to(model.device_).eval()
    model.history_ = pd.DataFrame(header["history"])
    model.trained_on_ = header["trained_on"]
    model.source_ = header.get("source")
    model.panel_ = None
    return model


def read_header(directory: str | Path) -> dict[str, Any]:
    """The checked content of ``model.json``, without the weights."""
    folder = Path(directory)
    path = folder / HEADER
    if not folder.is_dir():
        raise _refuse("no-such-model", f"There is no directory '{folder}'.", "Check the path.")
    if not path.is_file():
        raise _refuse(
            "no-such-model",
            f"'{folder}' is no model directory: it has no {HEADER}.",
            "Give the directory that save() or 'causalmmm fit' wrote.",
        )
    try:
        header = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise _refuse(
            "unreadable-model", f"'{path}' is not JSON: {error}.", "Save the model again."
        ) from None
    if not isinstance(header, dict) or header.get("kind") != KIND:
        raise _refuse(
            "unreadable-model", f"'{path}' does not describe a causalmmm model.", "Check the path."
        )
    version = header.get("format")
    if version != FORMAT:
        newer = isinstance(version, int) and version > FORMAT
        raise _refuse(
            "newer-format" if newer else "unknown-format",
            f"'{path}' has format {version!r}, this version of causalmmm reads {FORMAT}; it was "
            f"written by causalmmm {header.get('version', 'of unknown version')}.",
            "Upgrade causalmmm." if newer else "Save the model again.",
        )
    wrong = [
        Finding(
            "error",
            "unreadable-model",
            f"'{path}' {'lacks' if key not in header else 'has no proper'} '{key}'.",
            "Save the model again.",
            column=key,
        )
        for key, kind in _KEYS.items()
        if not isinstance(header.get(key), kind)
    ]
    if wrong:
        raise ModelError(wrong)
    return header


def training_record(panel: Panel) -> dict[str, Any]:
    """What a model was fitted on, in a few words and one fingerprint, as plain JSON values."""
    data = panel.data
    return {
        "stores": panel.n_stores,
        "rows": len(data.values),
        "series": len(panel.nodes),
        "freq": data.freq,
        "first": str(data.grid[0].astype("datetime64[D]")),
        "last": str(data.grid[-1].astype("datetime64[D]")),
        "fingerprint": fingerprint(panel),
    }


def fingerprint(panel: Panel) -> str:
    """Hexadecimal digest of names, dates and numbers of a panel: equal panels, equal digests."""
    data = panel.data
    digest = hashlib.blake2b(digest_size=16)
    names = [panel.nodes, panel.control_names, panel.context_names, panel.stores.tolist()]
    digest.update(json.dumps([*names, data.freq]).encode())
    grid = data.grid.astype("datetime64[D]").astype(np.int64)
    for array in (data.values, data.offsets, data.start, grid, data.controls, data.context):
        digest.update(str(array.shape).encode())
        digest.update(np.ascontiguousarray(array).data.cast("B") if array.size else b"")
    return digest.hexdigest()


def _header(model: CausalMMM, weights: Mapping[str, Tensor]) -> dict[str, Any]:
    import dataclasses

    history = [
        {k: v if np.isfinite(v) else None for k, v in row.items()}
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
        "source": model.source_,
        "history": history,
        "tensors": {k: {"shape": list(v.shape), "dtype": str(v.dtype)} for k, v in weights.items()},
    }


def _weights(
    folder: Path, listed: Mapping[str, Any], expected: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """The tensors of the file, which must be those of the list and fit the model."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    path = folder / WEIGHTS
    if not path.is_file():
        raise _refuse(
            "missing-weights",
            f"'{folder}' has no {WEIGHTS}: the model is not complete.",
            "Copy the whole directory, or save the model again.",
        )
    try:
        found = load_file(path)
    except (SafetensorError, OSError) as error:
        raise _refuse(
            "truncated-weights",
            f"'{path}' ({path.stat().st_size} bytes) cannot be read, it is cut off or damaged: "
            f"{error}.",
            "Copy the file again, or save the model again.",
        ) from None
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


def is_model(directory: Path) -> bool:
    """Whether a directory is one that ``save`` wrote, and holds nothing else."""
    try:
        header = json.loads((directory / HEADER).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    alone = {entry.name for entry in directory.iterdir()} <= {HEADER, WEIGHTS}
    return alone and isinstance(header, dict) and header.get("kind") == KIND


def check_place(target: Path, overwrite: bool) -> None:
    """Raise ``ModelError`` when ``save`` would refuse to write there."""
    if not os.path.lexists(target):
        above = next(p for p in target.absolute().parents if os.path.lexists(p))
        if not above.is_dir() or not os.access(above, os.W_OK):
            raise _refuse(
                "place-taken",
                f"Nothing can be written below '{above}'.",
                "Choose a directory in a folder that is yours.",
            )
        return
    if not target.is_dir() or not is_model(target):
        raise _refuse(
            "place-taken",
            f"'{target}' exists and is not only a causalmmm model, so it is not touched.",
            "Choose a directory that does not exist.",
        )
    if not overwrite:
        raise _refuse(
            "place-taken",
            f"There is a model in '{target}' already.",
            "Choose another directory, or allow it to be replaced: overwrite=True (--force).",
        )


def _refuse_unfitted(model: CausalMMM) -> None:
    from causalmmm.model.predictor import NotFittedError

    if not hasattr(model, "model_"):
        raise NotFittedError("this CausalMMM is not fitted: there is nothing to save")


def package_version() -> str:
    """Of the installed package, or "source" when it is used from its source tree."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("causalmmm")
    except PackageNotFoundError:
        return "source"


def _refuse(code: str, message: str, remedy: str) -> RefusedInput:
    return refusal(code, message, remedy, kind=ModelError)
