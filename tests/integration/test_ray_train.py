"""The program for Ray Train in docs/training.md, run as it stands there with two workers."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from causalmmm import CausalMMM
from causalmmm.simulation import simulate

PAGE = Path(__file__).parents[2] / "docs" / "training.md"
QUICK = 'seed=0, epochs=2, hidden=8, structure="learned", regime="amortised", device="cpu"'


def test_two_workers_of_ray_give_what_one_process_gives(tmp_path: Path) -> None:
    pytest.importorskip("ray.train", reason="Ray Train is not installed: pip install 'ray[train]'")
    panel, _ = simulate("paper-small", stores=24, steps=60, channels=2, seed=0)
    panel.to_frame().to_parquet(tmp_path / "panel.parquet", index=False)
    (code,) = re.findall(r"```python\n(import causalmmm\nimport ray.*?)```", PAGE.read_text(), re.S)
    code = re.sub(r"    schema = .*\n", "", code).replace(", schema)", ")")  # the file's own names
    code = code.replace("/shared", str(tmp_path)).replace("seed=0", QUICK)
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"OMP_NUM_THREADS": "1", "RAY_AUTH_MODE": "disabled"},
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    alone = CausalMMM(**eval(f"dict({QUICK})")).fit(panel, progress=False)
    together = CausalMMM.load(tmp_path / "model")
    for name, value in alone.model_.state_dict().items():
        np.testing.assert_allclose(
            together.model_.state_dict()[name], value, rtol=1e-2, atol=1e-3, err_msg=name
        )
