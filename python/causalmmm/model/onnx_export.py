"""A fitted model as one ONNX file: what the graph needs from the estimator, and the metadata.

The graph itself is made in ``causalmmm.engine.export``.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from causalmmm.extras import needing, package_version
from causalmmm.files import write_atomically
from causalmmm.runtime.signature import FORMAT, KEY, SEAL, seal

if TYPE_CHECKING:
    from onnx import ModelProto

    from causalmmm.data.panel import Panel
    from causalmmm.engine.nn.model import CausalModel
    from causalmmm.engine.regression import Regression
    from causalmmm.model.fitted import FittedModel

MAX_HORIZON = 90
TOLERANCE = 1e-4  # of ``differences``


def export_onnx(
    model: FittedModel,
    path: str | Path,
    *,
    draws: int | None = None,
    max_horizon: int = MAX_HORIZON,
    opset: int = 18,
) -> Path:
    """Write a fitted model to one ONNX file; see ``CausalMMM.export_onnx``."""
    with needing("export"):
        import onnx  # noqa: F401 - missing, it is said before anything is computed
    from causalmmm.engine.regression import Regression

    if draws is not None and draws < 1:
        raise ValueError(f"draws must be at least 1, got {draws}")
    if max_horizon < 1:
        raise ValueError(f"max_horizon must be at least 1 step, got {max_horizon}")
    if isinstance(model.model_, Regression):
        if draws not in (None, model.model_.config.draws):
            raise ValueError(
                f"the response regression answers from {model.model_.config.draws} joint draws, "
                "which are part of the model: leave draws out"
            )
        draws = model.model_.config.draws
        proto = _regression(model, model.model_, opset)
    else:
        draws = model.draws if draws is None else draws
        proto = _amortised(model, model.model_, draws, max_horizon, opset)
    return write_sealed(proto, facts(model, draws, max_horizon), path)


def write_sealed(proto: ModelProto, about: dict[str, Any], path: str | Path) -> Path:
    """Write a file that says ``about`` of itself, with the digest of all of it."""
    import onnx

    proto.producer_version = package_version()
    for key, value in ((KEY, json.dumps(about, allow_nan=False)), (SEAL, "0" * 64)):
        proto.metadata_props.add(key=key, value=value)
    onnx.checker.check_model(proto, full_check=True)
    target = Path(path)
    write_atomically(target, seal(proto.SerializeToString(deterministic=True)))
    return target


def _amortised(
    model: FittedModel, network: CausalModel, draws: int, max_horizon: int, opset: int
) -> ModelProto:
    from causalmmm.engine.export.build import build

    try:
        return build(
            network.cpu(),
            model.calendar_,
            window=int(model.window),
            draws=draws,
            seed=model.seed,
            horizon=max_horizon,
            opset=opset,
        )
    finally:
        network.to(model.device_)


def _regression(model: FittedModel, regression: Regression, opset: int) -> ModelProto:
    from causalmmm.decisions.tables import STEP
    from causalmmm.engine.export.build import build_regression

    window, calendar = int(model.window), model.calendar_
    return build_regression(
        regression, calendar, window=window, seed=model.seed, step=STEP, opset=opset
    )


def facts(model: FittedModel, draws: int, max_horizon: int) -> dict[str, Any]:
    """What the file says of itself: names, roles, calendar, limits, and where it comes from."""
    from causalmmm.engine.export.calendar import known_dates

    return {
        "format": FORMAT,
        "version": package_version(),
        "schema": model.schema_.model_dump(mode="json"),
        "nodes": list(model.nodes_),
        "roles": list(model.roles_),
        "context": list(model.context_names_),
        "controls": list(model.control_names_),
        "calendar": dataclasses.asdict(model.calendar_),
        "dates": known_dates(model.calendar_),
        "window": int(model.window),
        "config": dataclasses.asdict(model.config_),
        "horizon": min(model.horizon_, max_horizon),
        "max_horizon": max_horizon,
        "draws": draws,
        "seed": model.seed,
        "trained_on": dict(model.trained_on_),
        "run": run_digest(model),
    }


_SUMS = ("contributions", "paths", "roi")  # questions about sums over steps


def differences(model: FittedModel, path: str | Path, panel: Panel) -> dict[str, float]:
    """How far the answers of a file are from the model's, per column of numbers.

    Each difference is a share of the value, or of the typical size of its kind (of the series of
    the store for forecasts, of the target of the store for effects, of its sum over the history for
    contributions and returns, the largest of the column for ratios of money, 1 for probabilities
    and for series that are all zero) where the value is smaller. ``model`` draws as the file does.
    """
    import numpy as np

    from causalmmm.runtime import OnnxModel

    file = OnnxModel(path)
    draws, seed = model.draws, model.seed
    model.set_params(draws=file.draws, seed=file.info["seed"])
    try:
        answers = {
            "graphs": [m.graphs(panel) for m in (model, file)],
            "predict": [m.predict(panel) for m in (model, file)],
            "decompose": [m.decompose(panel) for m in (model, file)],
            "curves": [m.response_curves(panel=panel) for m in (model, file)],
        }
        for name in _SUMS:
            if name in file.questions:
                answers[name] = [getattr(m, name)(panel) for m in (model, file)]
    finally:
        model.set_params(draws=draws, seed=seed)
    owner = np.repeat(np.arange(panel.n_stores), panel.lengths)
    sizes = {
        (store, series): float(np.abs(panel.data.values[owner == s, k]).mean()) or 1.0
        for s, store in enumerate(panel.stores.tolist())
        for k, series in enumerate(panel.nodes)
    }
    found = {}
    for question, (ours, theirs) in answers.items():
        series = ours.get("series", ours["target"] if question == "graphs" else None)
        names = [panel.nodes[-1]] * len(ours) if series is None else series
        typical = np.array([sizes[key] for key in zip(ours["store"], names, strict=True)])
        if question in _SUMS:
            steps = dict(zip(panel.stores.tolist(), panel.lengths.tolist(), strict=True))
            typical = np.array([sizes[s, panel.nodes[-1]] * steps[s] for s in ours["store"]])
        for column in map(str, ours.select_dtypes("float")):
            a, b = ours[column].to_numpy(np.float64), theirs[column].to_numpy(np.float64)
            least = 1.0 if column == "probability" else typical
            if question == "roi" and not column.startswith(("outcome", "spend")):
                least = np.nan_to_num(np.abs(a)).max() or 1.0
            apart = np.where(np.isnan(a) & np.isnan(b), 0.0, np.abs(a - b))
            share = apart / np.maximum(np.nan_to_num(np.abs(a)), least)
            found[f"{question} {column}"] = float(np.nan_to_num(share, nan=np.inf).max())
    return found


def run_digest(model: FittedModel) -> str:
    """Hexadecimal digest of a training run: its data, its settings and the weights it led to."""
    from causalmmm.engine.regression import Regression
    from causalmmm.model.parameters import parameters_to_json

    fitted = model.model_
    tensors = fitted.state()[0] if isinstance(fitted, Regression) else fitted.state_dict()
    digest = hashlib.blake2b(digest_size=16)
    settings = [parameters_to_json(model.get_params()), dict(model.trained_on_)]
    digest.update(json.dumps(settings, sort_keys=True).encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
