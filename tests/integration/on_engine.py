"""Runs what the README of scoring says of an engine, as it stands there, and writes its ``scores``.

    python on_engine.py spark|ray README FOLDER

FOLDER holds model.onnx and panel/; it gets scores/, and in seen/ a file for every call of
``score``, named by the process, with the rows of every store that the call was given. Runs in an
installation of its own, without pytest and torch: see ``make engines-check``.
"""

from __future__ import annotations

import json
import os
import re
import sys
import time
from pathlib import Path
from typing import Any
from uuid import uuid4

os.environ.setdefault("RAY_AUTH_MODE", "disabled")  # else Ray writes a token into the home folder
PARTITIONS, WORKERS = 12, 2


def main(engine: str, page: Path, folder: Path) -> None:
    os.chdir(folder)
    (folder / "seen").mkdir()
    import causalmmm.scoring

    causalmmm.scoring.score = watched(folder / "seen")
    names: dict[str, Any] = {"__name__": "__main__"}
    if engine == "spark":
        names["spark"] = session = start_spark()
        exec(program(page, "pyspark", folder), names)
        names["scores"].write.parquet("scores")
        session.stop()
    else:
        import ray

        # Logical cores, enough for the shuffle and the writing beside the workers.
        ray.init(num_cpus=WORKERS + 6, include_dashboard=False)
        exec(program(page, "import ray", folder), names)
        names["scores"].write_parquet(str(folder / "scores"))
        ray.shutdown()


def program(page: Path, says: str, folder: Path) -> str:
    """The block of code that says so, with the settings of this run."""
    blocks = re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    (code,) = (block for block in blocks if says in block)
    settings = {
        "MODEL": f'"{folder / "model.onnx"}"', "PARTITIONS": PARTITIONS, "WORKERS": WORKERS,
    }  # fmt: skip
    for name, value in settings.items():
        code = re.sub(rf"^{name} = .*$", f"{name} = {value}", code, flags=re.MULTILINE)
    return str(code)


def watched(seen: Path) -> Any:
    """``score``, which leaves behind what it was called with, and waits for other workers to begin:
    the first could else be done with everything before there is a second."""

    def score(table: Any, model: Any) -> Any:
        from causalmmm.scoring import score as real

        counts = {
            cell["values"]: cell["counts"] for cell in table["shop"].value_counts().to_pylist()
        }
        (seen / f"{os.getpid()}-{uuid4().hex}.json").write_text(json.dumps(counts))
        for _ in range(300):
            if len({path.name.partition("-")[0] for path in seen.iterdir()}) >= WORKERS:
                break
            time.sleep(0.1)
        return real(table, model)

    return score


def start_spark() -> Any:
    from pyspark.sql import SparkSession

    os.environ["PYSPARK_PYTHON"] = sys.executable
    builder = SparkSession.builder.master(f"local[{WORKERS}]")
    for key, value in {"spark.ui.enabled": False, "spark.driver.host": "localhost"}.items():
        builder = builder.config(key, value)
    return builder.getOrCreate()


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]).resolve())
