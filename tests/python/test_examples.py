"""Every public class and function has an example, and all examples run.

In them ``panel`` is a small weekly panel and ``model`` fitted on it, as in the example of
``CausalMMM``; ``daily`` is a panel that the exported model ``model.onnx`` answers for.
"""

from __future__ import annotations

import doctest
import importlib
import inspect
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

import causalmmm
from causalmmm import CausalMMM, Panel, simulate

ROOMS = ("plots", "runtime", "scoring", "serving", "report", "simulation", "kernels")
# Questions of the model, though they are methods: the reference shows each by itself.
ASKED = (CausalMMM,)
# No example of their own, and why. What is new needs one.
WITHOUT = {
    "kernels.EdgeSample": "in the tests of edge_sample: twelve tensors",
    "kernels.edge_mean": "that of EdgeMean",
    "kernels.edge_noise": "in the tests of edge_sample",
    "kernels.edge_sample": "in its tests: twelve tensors",
    "kernels.adstock_hill": "in docs/edge-kernels.md",
    "CausalMMM.export_onnx": "docs/onnx.md; the amortised model alone is exported",
    "CausalMMM.model_config": "settings as the model reads them; nobody needs to call it",
    "CausalMMM.train_config": "settings as training reads them; nobody needs to call it",
    "CausalMMM.trust": "docs/trust.md; a test fits the model several times",
    "report.write_page": "that of write_report, which calls it",
}


def public() -> Iterator[tuple[str, Any]]:
    for room in ("", *ROOMS):
        module = importlib.import_module(f"causalmmm.{room}" if room else "causalmmm")
        for name in module.__all__:
            value = getattr(module, name)
            if inspect.isclass(value) or inspect.isfunction(value):
                yield f"{room}.{name}".removeprefix("."), value
    for kind in ASKED:
        for name, value in inspect.getmembers(kind, inspect.isroutine):
            if not name.startswith("_") and value.__module__.startswith("causalmmm"):
                yield f"{kind.__name__}.{name}", value


PUBLIC = dict(public())


def examples(name: str) -> list[doctest.DocTest]:
    value = PUBLIC[name]
    text = inspect.getdoc(value) or ""
    module = importlib.import_module(value.__module__)
    return [doctest.DocTestParser().get_doctest(text, vars(module).copy(), name, None, None)]


def has_example(name: str) -> bool:
    return bool(examples(name)[0].examples)


@pytest.fixture(scope="module")
def names(
    exported: Path, panel: Panel, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Any]]:
    """What examples may use, in a folder that holds the exported model."""
    folder = tmp_path_factory.mktemp("examples")
    shutil.copy(exported, folder / "model.onnx")
    weekly, _ = simulate("weekly-mmm", seed=0, stores=2, steps=80)
    model = CausalMMM(seed=0).fit(weekly, progress=False)
    ours = {name: getattr(causalmmm, name) for name in causalmmm.__all__}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        yield {**ours, "np": np, "pd": pd, "panel": weekly, "model": model, "daily": panel}


@pytest.mark.parametrize("name", [name for name in PUBLIC if has_example(name)])
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_an_example_runs(name: str, names: dict[str, Any]) -> None:
    (test,) = examples(name)
    test.globs.update({key: value for key, value in names.items() if key not in test.globs})
    runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE, verbose=False)
    told: list[str] = []
    runner.run(test, out=told.append)
    plt.close("all")
    assert runner.failures == 0, "".join(told)


def test_what_is_public_has_an_example() -> None:
    missing = {name for name in PUBLIC if not has_example(name)}
    assert missing == set(WITHOUT)
