"""A panel holds what the table held, whatever the order, the format or the lengths of histories."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from malformed import SCHEMA, good

from causalmmm import Panel, PanelError, Schema

CHECKED = Schema.check(SCHEMA)
ORDER = [
    "shop", "day", "tv_cost", "web_cost", "web_views", "visits", "sales", "price", "size", "people",
]  # fmt: skip

FIRST = {
    "D": "2023-12-25",
    "W-MON": "2023-12-25",
    "W-WED": "2023-12-27",
    "W-SUN": "2023-12-24",
    "MS": "2023-11-01",
}


@st.composite
def tables(draw: st.DrawFn) -> tuple[pd.DataFrame, str]:
    """A sound table of stores with own starts and lengths, in store and date order."""
    freq = draw(st.sampled_from(sorted(FIRST)))
    names = draw(
        st.lists(st.text("abcXYZ 01é", min_size=1, max_size=4).map(lambda t: f"s{t}x"), min_size=1,
                 max_size=5, unique=True)
    )  # fmt: skip
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    pieces = []
    for s, name in enumerate(sorted(names)):
        steps, skip = draw(st.integers(2, 30)), draw(st.integers(0, 20))
        dates = pd.date_range(FIRST[freq], periods=steps + skip, freq=freq)[skip:]
        piece = pd.DataFrame(
            rng.integers(0, 1 << 20, (steps, 6)).astype(float) / 8, columns=ORDER[2:8]
        )
        piece.insert(0, "day", dates)
        piece.insert(0, "shop", name)
        pieces.append(piece.assign(size=float(s), people=s + 1.0))
    return pd.concat(pieces, ignore_index=True), freq


def read(data: Any, schema: Any = CHECKED, **options: Any) -> Panel:
    return Panel.from_frame(data, schema, **{"min_steps": 1, **options})


def assert_equal(a: Panel, b: Panel) -> None:
    assert a.stores.tolist() == b.stores.tolist()
    assert a.schema == b.schema
    assert (a.data.freq, a.data.roles) == (b.data.freq, b.data.roles)
    for name in ("values", "offsets", "start", "grid", "controls", "context"):
        left, right = getattr(a.data, name), getattr(b.data, name)
        assert left.dtype == right.dtype
        assert np.array_equal(left, right), name
    assert np.array_equal(a.spend, b.spend, equal_nan=True)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(tables(), st.randoms(use_true_random=False))
def test_any_order_of_rows_and_columns_comes_back_as_the_same_table(
    table: tuple[pd.DataFrame, str], random: Any
) -> None:
    frame, freq = table
    rows, columns = list(range(len(frame))), list(frame.columns)
    random.shuffle(rows)
    random.shuffle(columns)
    shuffled = frame.iloc[rows][columns]
    untouched = shuffled.copy(deep=True)
    panel = read(shuffled)
    pd.testing.assert_frame_equal(shuffled, untouched)
    pd.testing.assert_frame_equal(
        panel.to_frame(), frame, check_dtype=False, check_column_type=False
    )
    assert_equal(panel, read(frame))
    if (frame.groupby("shop").size() >= 3).any():
        assert panel.freq == freq


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(tables())
def test_selection_and_the_table_of_the_stores_agree(table: tuple[pd.DataFrame, str]) -> None:
    frame, _ = table
    panel = read(frame)
    chosen = panel.stores[::-2].tolist()
    rows = pd.concat([frame[frame["shop"] == name] for name in chosen], ignore_index=True)
    pd.testing.assert_frame_equal(panel.select(chosen).to_frame(), rows, check_dtype=False)
    for name in chosen:
        dates = frame.loc[frame["shop"] == name, "day"]
        assert panel.select(chosen).dates(name).tolist() == dates.tolist()


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(tables(), st.integers(1, 12))
def test_head_and_tail_cut_every_store_at_its_own_end(
    table: tuple[pd.DataFrame, str], steps: int
) -> None:
    frame, _ = table
    panel = read(frame)
    by_store = frame.groupby("shop", sort=False)
    for cut, rows in ((panel.head(steps), by_store.head(steps)),
                      (panel.tail(steps), by_store.tail(steps))):  # fmt: skip
        pd.testing.assert_frame_equal(
            cut.to_frame(), rows.reset_index(drop=True), check_dtype=False
        )
        assert cut.data.grid[0] == rows["day"].min().to_datetime64()
        assert cut.data.grid[-1] == rows["day"].max().to_datetime64()


def test_split_puts_every_row_into_exactly_one_part() -> None:
    panel = read(good())
    train, test = panel.split(last=13)
    assert (train.lengths.tolist(), test.lengths.tolist()) == ([27] * 3, [13] * 3)
    both = pd.concat([train.to_frame(), test.to_frame()]).sort_values(["shop", "day"])
    pd.testing.assert_frame_equal(both.reset_index(drop=True), panel.to_frame())


def test_split_refuses_to_leave_nothing_of_a_store() -> None:
    panel = read(good().iloc[:50])
    with pytest.raises(ValueError, match="'B'"):
        panel.split(last=13)


def test_an_unknown_store_is_named_with_the_nearest_one() -> None:
    with pytest.raises(KeyError, match=r"store 'a'.*Did you mean 'A'"):
        read(good()).select("a")


def test_series_stand_in_model_order_and_exposure_feeds_the_model() -> None:
    frame = good()
    panel = read(frame)
    assert panel.nodes == ["tv", "web", "visits", "sales"]
    assert panel.data.roles == ("channel", "channel", "mediator", "target")
    for node, column in zip(panel.nodes, ["tv_cost", "web_views", "visits", "sales"], strict=True):
        assert panel.data.values[:, panel.nodes.index(node)].tolist() == frame[column].tolist()
    assert panel.spend[:, 1].tolist() == frame["web_cost"].tolist()
    assert panel.data.controls[:, 0].tolist() == frame["price"].tolist()
    assert panel.population is not None
    assert panel.population.tolist() == [5000, 6000, 7000]
    assert (len(panel), panel.n_stores, panel.lengths.tolist()) == (3, 3, [40, 40, 40])
    assert repr(panel) == "Panel(3 stores x 40 steps x 4 series, D, 2024-01-01 to 2024-02-09)"
    assert repr(panel.select(panel.stores[:1])).startswith("Panel(1 store x 40 steps")


def test_spend_shares_the_memory_of_the_values_when_it_feeds_the_model() -> None:
    panel = read(good(), {**SCHEMA, "channels": ["tv_cost", "web_cost"]})
    assert np.shares_memory(panel.spend, panel.data.values)
    for cut in (panel.select(["C", "A"]), panel.tail(5)):
        assert np.shares_memory(cut.spend, cut.data.values)
        assert cut.spend.shape == (len(cut.data.values), 2)


def test_money_is_nan_for_a_channel_without_a_spend_column() -> None:
    panel = read(good(), {**SCHEMA, "channels": {"web": {"exposure": "web_views"}}})
    assert np.isnan(panel.spend).all()


def test_context_is_one_row_per_store_unless_it_moves() -> None:
    fixed = read(good())
    assert fixed.data.context.tolist() == [[1], [2], [3]]
    assert not fixed.data.context_moves
    frame = good().assign(size=np.arange(120.0))
    moving = read(frame)
    assert moving.data.context_moves
    assert [f.code for f in moving.notices] == ["context-moves"]
    assert moving.to_frame()["size"].tolist() == frame["size"].tolist()
    assert moving.tail(2).data.context[:, 0].tolist() == [38, 39, 78, 79, 118, 119]


def test_context_that_moves_in_few_stores_is_doubted() -> None:
    frame = good(26, 10)
    frame.loc[3, "size"] = 77.0
    report = read(frame).report
    assert [(f.code, f.store) for f in report.warnings] == [("context-moves", "A")]


def test_an_unused_channel_of_one_store_is_only_noted() -> None:
    frame = good()
    frame.loc[frame["shop"] == "B", "tv_cost"] = 0.0
    assert [(f.severity, f.code, f.store) for f in read(frame).notices] == [
        ("notice", "zero-channel", "B")
    ]


def as_written(frame: pd.DataFrame, folder: Path, kind: str) -> Any:
    path = folder / f"panel.{kind}"
    if kind in ("csv", "csv.gz", "txt"):
        frame.to_csv(path, index=False, sep="\t" if kind == "txt" else ",")
    elif kind == "parquet":
        frame.to_parquet(path)
    elif kind == "polars":
        return pl.from_pandas(frame)
    elif kind == "polars lazy":
        return pl.from_pandas(frame).lazy()
    elif kind == "arrow":
        return pa.Table.from_pandas(frame)
    elif kind == "arrow dtypes":
        return pa.Table.from_pandas(frame).to_pandas(types_mapper=pd.ArrowDtype)
    elif kind == "indexed":
        return frame.set_index(["shop", "day"])
    elif kind == "categories":
        return frame.astype({"shop": "category"})
    return path


@pytest.mark.parametrize(
    "kind",
    ["csv", "csv.gz", "txt", "parquet", "polars", "polars lazy", "arrow", "arrow dtypes", "indexed",
     "categories"],
)  # fmt: skip
@pytest.mark.parametrize("dates", ["text", "datetime", "date"])
def test_every_format_gives_the_same_panel(kind: str, dates: str, tmp_path: Path) -> None:
    frame = good().sample(frac=1, random_state=0)
    stamps = pd.to_datetime(frame["day"])
    if dates != "text":
        frame["day"] = stamps if dates == "datetime" else stamps.dt.date
    panel = read(as_written(frame, tmp_path, kind))
    assert_equal(panel, read(good()))


@pytest.mark.parametrize("kind", ["csv", "parquet", "polars", "arrow", "pandas"])
def test_stores_that_are_numbers_keep_their_order_and_their_zeros(
    kind: str, tmp_path: Path
) -> None:
    frame = good(12)
    frame["shop"] = np.repeat(np.arange(12), 40)
    panel = read(as_written(frame, tmp_path, kind) if kind != "pandas" else frame)
    assert panel.stores.tolist() == [str(s) for s in range(12)]
    frame["shop"] = [f"{s:03d}" for s in frame["shop"]]
    data = as_written(frame, tmp_path, kind) if kind != "pandas" else frame
    assert read(data).stores[-2:].tolist() == ["010", "011"]


@pytest.mark.parametrize(
    ("form", "noticed"),
    [
        ("%Y-%m-%d", []),
        ("%Y%m%d", []),
        ("%Y/%m/%d", []),
        ("%d.%m.%Y", []),
        ("%d/%m/%Y", []),
        ("%m/%d/%Y", []),
        ("%d %b %Y", []),
        ("%b %d, %Y", []),
        ("%Y-%m-%d 00:00:00", []),
        ("%Y-%m-%dT00:00:00Z", ["time-zone-dropped"]),
    ],
)
@pytest.mark.parametrize("kind", ["frame", "csv"])
def test_dates_are_read_as_they_are_written(
    form: str, noticed: list[str], kind: str, tmp_path: Path
) -> None:
    frame = good()
    frame["day"] = pd.to_datetime(frame["day"]).dt.strftime(form)
    panel = read(frame if kind == "frame" else as_written(frame, tmp_path, "csv"))
    assert_equal(panel, read(good()))
    assert [f.code for f in panel.notices] == noticed


@pytest.mark.parametrize("form", ["{day:02d}/03/2024", "03/{day:02d}/2024"])
def test_dates_that_read_in_two_ways_are_read_the_even_way(form: str) -> None:
    frame = good(1, 12)
    frame["day"] = [form.format(day=day) for day in range(1, 13)]
    panel = read(frame)
    assert (panel.freq, str(panel.data.grid[0])) == ("D", "2024-03-01")
    assert "ambiguous-date" in panel.report.codes


def test_days_of_january_are_not_taken_for_first_days_of_months_nor_the_reverse() -> None:
    frame = good(1, 12)
    frame["day"] = [f"01/{number:02d}/2024" for number in range(1, 13)]
    with pytest.raises(PanelError, match="ambiguous-date"):
        read(frame)


def test_a_store_with_one_row_takes_the_frequency_of_the_others() -> None:
    weekly = good(3, 10, "W-MON")
    frame = weekly[(weekly["shop"] != "B") | (weekly["day"] == "2024-02-26")]
    frame = frame.assign(day=frame["day"].where(frame["shop"] != "B", "2024-04-01"))
    panel = read(frame)  # four weeks after the last row of A
    assert (panel.freq, panel.lengths.tolist()) == ("W-MON", [10, 1, 10])


def test_whole_numbers_are_dates_when_they_look_like_them() -> None:
    frame = good()
    frame["day"] = frame["day"].str.replace("-", "").astype(int)
    assert_equal(read(frame), read(good()))
    monthly = good(2, 20, "MS")
    numbers = monthly.assign(day=monthly["day"].str.replace("-", "").str[:6].astype(int))
    assert_equal(read(numbers), read(monthly))


def test_a_number_far_too_large_for_a_date_is_named() -> None:
    frame = good()
    frame["day"] = frame["day"].str.replace("-", "").astype(float)
    assert_equal(read(frame), read(good()))
    frame.loc[3, "day"] = 1e300
    with pytest.raises(PanelError, match=r"1e\+300.*'A'"):
        read(frame)


def test_midnights_in_a_local_zone_keep_their_date() -> None:
    frame = good()
    frame["day"] = pd.to_datetime(frame["day"]).dt.tz_localize("Europe/Berlin")
    panel = read(frame)
    assert_equal(panel, read(good()))
    assert [f.code for f in panel.notices] == ["time-zone-dropped"]


def test_month_ends_go_by_the_first_of_their_month() -> None:
    panel = read(good(2, 20, "ME"))
    assert_equal(panel, read(good(2, 20, "MS")))
    assert [f.code for f in panel.notices] == ["month-end-dates"]


def test_numbers_stored_as_text_or_decimals_are_read_as_numbers() -> None:
    frame = good()
    panel = read(frame.assign(tv_cost=frame["tv_cost"].astype(str)))
    assert_equal(panel, read(good()))
    assert [f.code for f in panel.notices] == ["text-as-numbers"]
    exact = pa.Table.from_pandas(frame)
    place = exact.column_names.index("tv_cost")
    decimal = exact["tv_cost"].cast(pa.decimal128(10, 2))
    assert_equal(read(exact.set_column(place, "tv_cost", decimal)), read(good()))


def test_flags_are_allowed_as_controls() -> None:
    frame = good().assign(price=lambda f: f["price"] > 7)
    panel = read(frame)
    assert panel.data.controls[:, 0].tolist() == frame["price"].astype(float).tolist()
    assert [f.code for f in panel.notices] == ["flags-as-numbers"]


def test_a_panel_without_a_store_column_is_one_national_store() -> None:
    frame = good(1).drop(columns="shop")
    panel = read(frame, {k: v for k, v in SCHEMA.items() if k != "store"})
    assert panel.stores.tolist() == ["national"]
    assert list(panel.to_frame().columns) == ORDER[1:]


def arrays(lengths: list[int] | None = None) -> dict[str, Any]:
    rows = 60 if lengths is None else sum(lengths)
    values = np.arange(rows * 4, dtype=np.float32).reshape(rows, 4) + 1
    return {
        "values": values.reshape(3, 20, 4) if lengths is None else values,
        "schema": Schema.check({**SCHEMA, "channels": ["tv", "web"], "population": None}),
        "first_date": "2024-01-01",
        "freq": "W-MON",
        "lengths": lengths,
        "controls": np.ones((rows, 1)),
        "context": [[1.0], [2.0], [3.0]],
    }


def test_arrays_become_the_panel_that_their_own_table_becomes() -> None:
    for lengths, start in ((None, None), ([10, 25, 9], [3, 0, 16])):
        panel = Panel.from_arrays(**arrays(lengths), start=start)
        assert panel.stores.tolist() == ["store_0", "store_1", "store_2"]
        assert_equal(read(panel.to_frame(), panel.schema), panel)


def test_arrays_are_not_copied() -> None:
    parts = arrays()
    panel = Panel.from_arrays(**parts)
    assert np.shares_memory(panel.data.values, parts["values"])
    assert np.shares_memory(panel.spend, parts["values"])


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"values": np.zeros((3, 20, 5))}, "4 series"),
        ({"values": np.full((3, 20, 4), np.nan)}, "finite"),
        ({"controls": None}, "controls"),
        ({"controls": np.ones((59, 1))}, "controls"),
        ({"context": np.ones((3, 2))}, "context"),
        ({"stores": ["a", "a", "b"]}, "different names"),
        ({"start": [0, 1, -1]}, "start"),
        ({"spend": np.ones((60, 3))}, "spend"),
        ({"lengths": [20, 20, 20]}, "lengths"),
    ],
)
def test_arrays_that_do_not_agree_are_refused(change: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        Panel.from_arrays(**{**arrays(), **change})


def test_a_frame_of_an_unknown_kind_is_refused_in_words() -> None:
    with pytest.raises(PanelError, match="unknown-format"):
        Panel.from_frame([1, 2, 3], SCHEMA)


def test_importing_the_package_imports_neither_pandas_nor_torch() -> None:
    code = (
        "import sys, causalmmm; dir(causalmmm); "
        "print([m for m in ('torch', 'pandas', 'numpy', 'pydantic') if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


def test_a_store_may_be_called_na(tmp_path: Path) -> None:
    frame = pd.concat([good().assign(shop=name) for name in ("NA", "None", "null")])
    frame = frame.drop_duplicates(["shop", "day"])
    frame.to_csv(tmp_path / "regions.csv", index=False)
    panel = Panel.from_frame(tmp_path / "regions.csv", CHECKED)
    assert list(panel.stores) == ["NA", "None", "null"]


def test_amounts_written_as_text_keep_their_role_and_are_refused() -> None:
    days = pd.date_range("2024-01-01", periods=40)
    frame = pd.DataFrame({"date": days, "tv_spend": "$1,066.59", "sales": np.arange(40.0) + 1})
    frame["web_spend"] = 3.0
    with pytest.raises(PanelError, match="Spend 'tv_spend' is not a number"):
        Panel.from_frame(frame)
    frame["tv_spend"] = "much"
    assert Panel.from_frame(frame).nodes == ["web", "sales"]


@pytest.mark.parametrize(
    ("freq", "first", "says"),
    [
        ("M", "2024-01-01", "freq must be D, W, W-MON"),
        ("H", "2024-01-01", "freq must be D, W, W-MON"),
        ("W-SUN", "2024-01-01", "2024-01-01 is not a Sunday .freq 'W-SUN'"),
        ("MS", "2024-01-15", "2024-01-15 is not the first day of a month .freq 'MS'"),
    ],
)
def test_arrays_need_a_frequency_and_a_date_on_it(freq: str, first: str, says: str) -> None:
    schema = Schema.check({"date": "day", "target": "y", "channels": ["x"]})
    with pytest.raises(ValueError, match=says):
        Panel.from_arrays(np.ones((1, 30, 2)), schema=schema, first_date=first, freq=freq)


def test_weeks_of_arrays_are_anchored_on_their_first_day() -> None:
    schema = Schema.check({"date": "day", "target": "y", "channels": ["x"]})
    panel = Panel.from_arrays(np.ones((1, 30, 2)), schema=schema, first_date="2024-01-03", freq="W")
    assert panel.freq == "W-WED"


def test_a_store_is_selected_once() -> None:
    panel = Panel.from_frame(good(), CHECKED)
    with pytest.raises(ValueError, match="once only"):
        panel.select([panel.stores[0], panel.stores[0]])
