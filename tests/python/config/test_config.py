"""One YAML file configures everything; what is wrong with it is said with line and key."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from malformed import SCHEMA, good

from causalmmm import Config, ConfigError, Panel, Schema

TEXT = """\
schema:
  store: shop
  date: day
  target: sales
  channels:
    tv: tv_cost
    web: {spend: web_cost, exposure: web_views}
data:
  path: panel.csv
  nan: {channels: 0, controls: interpolate}
model:
  epochs: 20
  decays: [0.1, 0.5]
"""


def test_a_file_is_read_into_its_three_sections(tmp_path: Path) -> None:
    (tmp_path / "causalmmm.yml").write_text(TEXT)
    config = Config.read(tmp_path / "causalmmm.yml")
    assert config.schema is not None
    assert config.schema.nodes == ["tv", "web", "sales"]
    assert config.data.path == tmp_path / "panel.csv"
    assert config.data.nan == {"channels": 0, "controls": "interpolate"}
    assert config.model == {"epochs": 20, "decays": [0.1, 0.5]}


def test_an_absolute_data_path_stays(tmp_path: Path) -> None:
    config = Config.parse(f"data: {{path: {tmp_path / 'x.csv'}}}", folder=Path("elsewhere"))
    assert config.data.path == tmp_path / "x.csv"


def test_an_empty_file_leaves_everything_to_be_guessed() -> None:
    assert Config.parse("") == Config(None)


@pytest.mark.parametrize(
    ("override", "place", "value"),
    [
        ("model.epochs=5", ("model", "epochs"), 5),
        ("model.device=cpu", ("model", "device"), "cpu"),
        ("model.levels=[80, 95]", ("model", "levels"), [80, 95]),
        ("model.amp=false", ("model", "amp"), False),
        ("model.note=a=b", ("model", "note"), "a=b"),
        ("model.prior.strength=0.5", ("model", "prior", "strength"), 0.5),
    ],
)
def test_an_override_sets_one_key_as_yaml(
    override: str, place: tuple[str, ...], value: Any
) -> None:
    found: Any = {"model": Config.parse(TEXT, [override]).model}
    for part in place:
        found = found[part]
    assert found == value
    assert type(found) is type(value)


def test_overrides_reach_every_section_and_the_last_one_wins() -> None:
    config = Config.parse(
        TEXT, ["schema.channels.tv=tv_money", "data.nan=zero", "model.epochs=1", "model.epochs=2"]
    )
    assert config.schema is not None
    assert config.schema.channels["tv"].spend == "tv_money"
    assert (config.data.nan, config.model["epochs"]) == ("zero", 2)


@pytest.mark.parametrize(
    ("text", "overrides", "code", "says"),
    [
        ("schema: [1, 2", [], "yaml-syntax", "line 1"),
        ("- a\n- b", [], "yaml-syntax", "sections"),
        (TEXT + "\tx: 1\n", [], "yaml-syntax", "line 14"),
        (TEXT + "modle: {}\n", [], "unknown-key", "'modle' (line 14)"),
        (TEXT.replace("epochs", "epohs"), [], "unknown-key", "'model.epohs' (line 12)"),
        (TEXT.replace("target: sales", "targt: sales"), [], "unknown-key", "'targt' (line 4)"),
        (TEXT.replace("  target: sales\n", ""), [], "missing-key", "target (line 1)"),
        (TEXT.replace("spend: web_cost", "spnd: web_cost"), [], "unknown-key", "spnd' (line 7)"),
        (TEXT.replace("path:", "file:"), [], "unknown-key", "'data.file' (line 9)"),
        (TEXT, ["data.decimal=;"], "bad-number-signs", "';' cannot be the sign 'decimal'"),
        (TEXT, ["data.thousands=."], "bad-number-signs", "'.' cannot stand before decimals"),
        (TEXT, ["data.encoding=latin-99"], "unknown-encoding", "'latin-99' is no encoding"),
        (TEXT.replace("interpolate", "ffill"), [], "unknown-policy", "ffill}' (line 10)"),
        (TEXT.replace("epochs: 20", "epochs: 20\n  epochs: 3"), [], "repeated-key", "line 12"),
        (TEXT.replace("web_cost", "day"), [], "column-in-two-roles", "'day'"),
        ("data: {min_steps: few}", [], "invalid-value", "data.min_steps"),
        ("data: 5", [], "invalid-value", "'data'"),
        (TEXT, ["model.epochs"], "bad-override", "'model.epochs'"),
        (TEXT, ["=5"], "bad-override", "'=5'"),
        (TEXT, ["model.x=[1"], "bad-override", "[1"),
        (TEXT, ["model.epochs.fast=1"], "bad-override", "20"),
        (TEXT, ["model.epohs=5"], "unknown-key", "override"),
        (TEXT, ["schema.freq=hourly"], "unknown-frequency", "freq"),
    ],
)
def test_a_wrong_file_is_refused_with_line_and_key(
    text: str, overrides: list[str], code: str, says: str
) -> None:
    with pytest.raises(ConfigError) as refused:
        Config.parse(text, overrides, model_keys=["epochs", "decays"])
    found = [f for f in refused.value.report if f.code == code]
    assert found, refused.value
    assert says in found[0].message
    assert found[0].remedy


def test_a_near_key_is_suggested() -> None:
    with pytest.raises(ConfigError, match="Did you mean 'epochs'"):
        Config.parse("model: {epohcs: 3}", model_keys=["epochs", "decays"])


def test_all_problems_of_a_file_come_at_once() -> None:
    text = "schema: {date: d, targt: y, channels: [a]}\ndata: {nan: maybe, x: 1}\nmodel: {z: 1}\n"
    with pytest.raises(ConfigError) as refused:
        Config.parse(text, model_keys=["epochs"])
    keys = {(f.code, f.column) for f in refused.value.report}
    assert keys >= {
        ("missing-key", "target"),
        ("unknown-key", "targt"),
        ("unknown-key", "data.x"),
        ("unknown-key", "model.z"),
    }
    assert any(code == "unknown-policy" for code, _ in keys)


@pytest.mark.parametrize("name", ["nowhere.yml", "folder"])
def test_a_file_that_is_not_there_is_refused(name: str, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(ConfigError, match="no-such-file"):
        Config.read(tmp_path / name)


def test_the_template_of_a_file_reads_back_as_its_guess_and_loads_it(tmp_path: Path) -> None:
    frame = good().rename(columns={"price": "price_control", "size": "context0"})
    frame.to_csv(tmp_path / "data.csv", index=False)
    text = Config.template(tmp_path / "data.csv")
    (tmp_path / "causalmmm.yml").write_text(text)
    config = Config.read(tmp_path / "causalmmm.yml")
    assert config.schema == Schema.guess(frame)[0]
    assert config.data.path == tmp_path / "data.csv"
    panel = Panel.read(config.data.path, config.schema, nan=config.data.nan)
    assert panel.n_stores == 3


def test_the_template_gives_every_column_with_its_reason() -> None:
    frame = good().assign(colour="red")
    lines = Config.template(frame).splitlines()
    for column in frame.columns:
        if column == "people":
            continue
        assert any(column in line and "  # " in line for line in lines), column


@settings(max_examples=50, deadline=None)
@given(
    st.lists(
        st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs", "Zl", "Zp")),
                min_size=1, max_size=12),
        min_size=2, max_size=5, unique=True,
    )
)  # fmt: skip
def test_templates_read_back_whatever_the_columns_are_called(names: list[str]) -> None:
    columns = ["date", "sales", *(f"{name}_spend" for name in names)]
    frame = pd.DataFrame({name: [1.0, 2.0] for name in columns}).assign(date="2024-01-01")
    schema, _ = Schema.guess(frame)
    assert yaml.safe_load(Config.template(frame))["schema"]["date"] == "date"
    assert Config.parse(Config.template(frame)).schema == schema


def test_the_schema_of_the_tests_can_be_written_as_yaml() -> None:
    config = Config.parse(yaml.safe_dump({"schema": SCHEMA}))
    assert config.schema == Schema.check(SCHEMA)


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("schema: " + "[" * 5000 + "]" * 5000, "yaml-depth"),
        ("schema: " + "{a: " * 3000 + "}" * 3000, "yaml-depth"),
        ("a: &a [x, x]\nb: &b [*a, *a]\nmodel: {c: [*b, *b]}", "yaml-anchor"),
        ("model: &m {seed: *m}", "yaml-anchor"),
        ("#" + "x" * 6_000_000, "yaml-size"),
    ],
    ids=["lists", "mappings", "billion laughs", "itself", "size"],
)
def test_a_configuration_that_would_unfold_is_refused(text: str, code: str) -> None:
    with pytest.raises(ConfigError) as refused:
        Config.parse(text)
    assert refused.value.report.codes == {code}
    if code != "yaml-size":
        with pytest.raises(ConfigError):
            Config.parse("", [f"model.seed={text.partition(': ')[2]}"])
