"""Random tables, settings, models, checkpoints and exported files: read, or refused with a finding.

`make test` takes a few examples of every kind, `make fuzz` thousands (CAUSALMMM_FUZZ).
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from causalmmm import Config, load, validate
from causalmmm.findings import RefusedInput
from causalmmm.model.checkpoints import check_checkpoint
from causalmmm.runtime import OnnxModel

GOLDEN = Path(__file__).parents[1] / "golden/format-1"
fuzzed = settings(
    max_examples=int(os.environ.get("CAUSALMMM_FUZZ", "20")),
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
ODD = st.sampled_from(
    [None, True, -1, 0, 2**70, 1e308, float("nan"), "", "x", "\0", [], {}, [[]], {"a": 1}]
)
CELLS = st.one_of(
    st.sampled_from(["", "0", "1.5", "-3", "1e300", "nan", "inf", "x", "1.234,5", "2024-01-08"]),
    st.text(max_size=6),
)
NAMES = st.sampled_from(["store", "date", "sales", "tv_spend", "price", "", "date ", "Umsatz"])


def is_read_or_refused(read: Callable[[], object]) -> None:
    """Anything but a refusal comes through, and fails the test."""
    with suppress(RefusedInput):
        read()


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as made:
        yield Path(made)


@fuzzed
@given(
    names=st.lists(NAMES, min_size=1, max_size=5),
    rows=st.lists(st.lists(CELLS, max_size=6), max_size=30),
    mark=st.sampled_from([";", ",", "\t"]),
    encoding=st.sampled_from(["utf-8", "utf-16", "cp1252"]),
)
def test_tables_of_text(
    folder: Path, names: list[str], rows: list[list[str]], mark: str, encoding: str
) -> None:
    text = "\n".join(mark.join(cells) for cells in [names, *rows])
    (folder / "t.csv").write_bytes(text.encode(encoding, errors="replace"))
    validate(folder / "t.csv")
    is_read_or_refused(lambda: Config.parse(Config.template(folder / "t.csv")))


@fuzzed
@given(
    content=st.binary(max_size=300), suffix=st.sampled_from([".csv", ".csv.gz", ".zip", ".xlsx"])
)
def test_tables_of_bytes(folder: Path, content: bytes, suffix: str) -> None:
    (folder / f"t{suffix}").write_bytes(content)
    assert validate(folder / f"t{suffix}").errors


@fuzzed
@given(
    tree=st.dictionaries(
        st.sampled_from(["schema", "data", "model", "x"]),
        st.one_of(
            ODD,
            st.dictionaries(
                st.sampled_from(
                    [
                        *("date", "target", "channels", "controls", "nan", "path", "decimal"),
                        *("gaps", "epochs", "edge_prior", "seed", "structure"),
                    ]
                ),
                st.one_of(ODD, st.dictionaries(NAMES, ODD, max_size=3), st.lists(ODD, max_size=3)),
            ),
        ),
    ),
    cut=st.integers(0, 40),
    inserted=st.text(max_size=4),
)
def test_settings(tree: dict[str, Any], cut: int, inserted: str) -> None:
    text = yaml.safe_dump(tree)
    for written in (text, text[:cut] + inserted + text[cut:]):
        is_read_or_refused(lambda text=written: Config.parse(text))  # type: ignore[misc]


@fuzzed
@given(data=st.data())
def test_headers_of_models(folder: Path, data: st.DataObject) -> None:
    place = folder / "model"
    if not place.exists():
        shutil.copytree(GOLDEN / "model", place)
    header = json.loads((GOLDEN / "model/model.json").read_text())
    inside: Any = header
    while isinstance(inside, (dict, list)) and inside:
        keys = list(inside) if isinstance(inside, dict) else list(range(len(inside)))
        key = data.draw(st.sampled_from(keys))
        if not isinstance(inside[key], (dict, list)) or data.draw(st.booleans()):
            inside[key] = data.draw(ODD)
            break
        inside = inside[key]
    (place / "model.json").write_text(json.dumps(header))
    is_read_or_refused(lambda: load(place, device="cpu"))


@fuzzed
@given(content=st.binary(max_size=200), at=st.integers(0, 139_000), length=st.integers(0, 139_528))
def test_checkpoints_and_exported_files(folder: Path, content: bytes, at: int, length: int) -> None:
    (folder / "run.checkpoint").write_bytes(content)
    is_read_or_refused(lambda: check_checkpoint(folder / "run.checkpoint", []))
    whole = (GOLDEN / "model.onnx").read_bytes()
    (folder / "model.onnx").write_bytes(
        (whole[:at] + content + whole[at + len(content) :])[:length]
    )
    is_read_or_refused(lambda: OnnxModel(folder / "model.onnx", threads=1))
