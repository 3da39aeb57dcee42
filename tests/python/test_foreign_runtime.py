"""Another runtime, in another language, gives the same numbers: onnxruntime-web under Node.js."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from causalmmm import CausalMMM
from causalmmm.simulation import simulate

ROOT = Path(__file__).parents[2]
MODULES = Path(os.environ.get("CAUSALMMM_NODE_MODULES", ROOT / "build" / "node" / "node_modules"))


def test_onnxruntime_web_gives_the_same_numbers(tmp_path: Path) -> None:
    pytest.importorskip("onnxscript", reason="needs the optional extra onnx")
    pytest.importorskip("onnxruntime", reason="needs the optional extra runtime")
    node = shutil.which("node")
    if node is None:
        pytest.skip("Node.js is not installed")
    if not (MODULES / "onnxruntime-web").is_dir():
        pytest.skip("onnxruntime-web is not installed: make foreign-check installs it")
    from causalmmm.runtime import OnnxModel
    from causalmmm.runtime.feeds import feeds

    panel, _ = simulate("paper-small", seed=4, stores=6, steps=80, channels=2)
    model = CausalMMM(epochs=3, hidden=16, draws=40, device="cpu").fit(panel, progress=False)
    file = OnnxModel(model.export_onnx(tmp_path / "model.onnx"))
    given = feeds(
        panel, np.arange(6), window=file.window, steps=9, levels=(80, 95), points=5,
        contributions=True,
    )  # fmt: skip
    given = {name: given[name] for name in file.inputs}
    packed = {
        name: {
            "type": str(array.dtype),
            "dims": array.shape,
            "data": base64.b64encode(np.ascontiguousarray(array).tobytes()).decode(),
        }
        for name, array in given.items()
    }
    inputs, outputs = tmp_path / "inputs.json", tmp_path / "outputs.json"
    inputs.write_text(json.dumps(packed))
    script = ROOT / "tests" / "foreign" / "infer.mjs"
    done = subprocess.run(
        [node, script, MODULES, file.path, inputs, outputs],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(outputs.read_text())
    expected = file.run(given, list(found))
    assert len(found) == 11
    for name, said in found.items():
        values = np.frombuffer(base64.b64decode(said["data"]), np.float32).reshape(said["dims"])
        size = np.abs(expected[name]).max()
        np.testing.assert_allclose(values, expected[name], rtol=1e-4, atol=1e-4 * size)
