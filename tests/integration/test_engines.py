"""Scoring on Spark and on Ray Data with several workers is scoring: see `make engines-check`."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from causalmmm import Panel
from causalmmm.runtime import OnnxModel
from causalmmm.scoring import score

HERE = Path(__file__).parent
PAGE = HERE.parents[1] / "python" / "causalmmm" / "scoring" / "README.md"
PYTHON = Path(os.environ.get("CAUSALMMM_ENGINES_PYTHON", ""))
pytestmark = pytest.mark.skipif(
    not PYTHON.is_file(), reason="needs an installation of Ray and Spark: make engines-check"
)


@pytest.mark.parametrize("engine", ["spark", "ray"])
def test_an_engine_scores_whole_stores_on_several_workers(
    engine: str, exported: Path, many: Panel, tmp_path: Path
) -> None:
    """The files split every store by date, so that nothing but the engine brings it together."""
    shutil.copy(exported, tmp_path / "model.onnx")
    table = pa.Table.from_pandas(many.to_frame(), preserve_index=False)
    (tmp_path / "panel").mkdir()
    for part, rows in enumerate(np.array_split(np.argsort(table["day"].to_numpy()), 5)):
        pq.write_table(table.take(rows), tmp_path / "panel" / f"part-{part}.parquet")
    done = subprocess.run(
        [PYTHON, HERE / "on_engine.py", engine, PAGE, tmp_path],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    calls = [json.loads(path.read_text()) for path in (tmp_path / "seen").iterdir()]
    lengths = dict(zip(many.stores.tolist(), many.lengths.tolist(), strict=True))
    assert {store: rows for call in calls for store, rows in call.items()} == lengths
    assert sum(map(len, calls)) == many.n_stores  # no store in two calls
    assert len({path.name.partition("-")[0] for path in (tmp_path / "seen").iterdir()}) >= 2
    files = [path for path in (tmp_path / "scores").iterdir() if path.suffix == ".parquet"]
    found = pa.concat_tables([pq.read_table(path) for path in files])
    expected = score(table, OnnxModel(exported))
    assert found.schema.names == expected.schema.names
    keys = ["store", "date", "series"]
    frames = [rows.to_pandas().sort_values(keys, ignore_index=True) for rows in (found, expected)]
    pd.testing.assert_frame_equal(*frames, rtol=1e-4, atol=1e-5)
