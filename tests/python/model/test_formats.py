"""Models and exported files of earlier formats are read as they were meant.

``tests/golden/format-1`` was written by the version before settings and tensors were renamed:
a model, its exported file, the panel it was fitted on, and what both answered then.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from causalmmm import CausalMMM, ModelError, Panel, load
from causalmmm.model.header import header_text

GOLDEN = Path(__file__).parents[2] / "golden" / "format-1"


@pytest.fixture(scope="module")
def model() -> CausalMMM:
    return load(GOLDEN / "model")


@pytest.fixture(scope="module")
def panel(model: CausalMMM) -> Panel:
    return Panel.read(GOLDEN / "panel.csv", schema=model.schema_)


@pytest.mark.parametrize("kind", ["model", "onnx"])
def test_files_of_format_1_answer_as_they_did(kind: str, model: CausalMMM, panel: Panel) -> None:
    answering = model
    if kind == "onnx":
        pytest.importorskip("onnxruntime", reason="needs the extra runtime")
        from causalmmm.runtime import OnnxModel

        answering = OnnxModel(GOLDEN / "model.onnx")
    then = json.loads((GOLDEN / "answers.json").read_text())[kind]
    probability = answering.graphs(panel)["probability"].to_numpy(float)
    mean = answering.predict(panel)["mean"].to_numpy(float)
    np.testing.assert_allclose(probability, then["graphs"], atol=2e-5)
    np.testing.assert_allclose(mean, then["predict"], rtol=2e-4)


def test_a_model_of_format_1_has_todays_settings_and_is_saved_in_todays_format(
    model: CausalMMM, tmp_path: Path
) -> None:
    assert (model.ar_lags, model.target_share) == (3, 0.3)
    assert model.horizon == model.horizon_ == 3
    header = json.loads((model.save(tmp_path / "again") / "model.json").read_text())
    assert header["format"] == 3
    assert header["config"]["ar_lags"] == 3
    assert "decoder.ar_weights" in header["tensors"]


def test_a_setting_that_no_version_knows_is_refused(model: CausalMMM, tmp_path: Path) -> None:
    path = model.save(tmp_path / "odd") / "model.json"
    header = json.loads(path.read_text())
    header["parameters"]["flux"] = 1
    del header["digest"]
    path.write_text(header_text(header))
    with pytest.raises(ModelError, match="flux"):
        load(path.parent)


def test_defaults_of_the_estimator_are_those_of_the_configuration() -> None:
    model = CausalMMM()
    config = model.model_config(stores=1_000)
    assert config == type(config)()
    assert model.train_config() == type(model.train_config())()
