"""Malformed panels and plans, each with the finding that it must lead to.

Used by the tests of validation, and by those of the command line: ``write`` puts a case into
ordinary files.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

Table = pd.DataFrame | Path

SCHEMA: dict[str, Any] = {
    "store": "shop",
    "date": "day",
    "target": "sales",
    "channels": {"tv": {"spend": "tv_cost"}, "web": {"spend": "web_cost", "exposure": "web_views"}},
    "mediators": ["visits"],
    "controls": [{"name": "price", "future_known": True}],
    "context": ["size"],
    "population": "people",
}


@dataclass(frozen=True)
class Case:
    """``build`` makes the table (a frame, or a file in the folder it is given); ``says`` are words
    that the message must hold; ``store`` and ``date`` what the finding must name, if anything."""

    name: str
    code: str
    build: Callable[[Path], Table]
    says: tuple[str, ...] = ()
    column: str | None = None
    store: str | None = None
    date: str | None = None
    schema: Mapping[str, Any] | None = None
    nan: Any = None
    severity: str = "error"


def good(
    stores: int = 3, steps: int = 40, freq: str = "D", first: str = "2024-01-01"
) -> pd.DataFrame:
    """A panel without fault: stores A, B, C ..., dates as text."""
    rng = np.random.default_rng(0)
    rows = stores * steps
    names = [chr(ord("A") + s) for s in range(stores)]
    dates = pd.date_range(first, periods=steps, freq=freq).strftime("%Y-%m-%d")
    return pd.DataFrame(
        {
            "shop": np.repeat(names, steps),
            "day": np.tile(dates, stores),
            "tv_cost": rng.integers(1, 100, rows) / 4,
            "web_cost": rng.integers(1, 100, rows) / 4,
            "web_views": rng.integers(1, 10_000, rows) / 1.0,
            "visits": rng.integers(1, 1000, rows) / 1.0,
            "sales": rng.integers(1, 5000, rows) / 2,
            "price": rng.integers(50, 70, rows) / 8,
            "size": np.repeat(np.arange(stores) + 1.0, steps),
            "people": np.repeat(np.arange(stores) * 1000.0 + 5000, steps),
        }
    )


def plan(history: pd.DataFrame, steps: int = 5, freq: str = "D") -> pd.DataFrame:
    """A plan without fault that continues ``history``."""
    pieces = []
    for store, rows in history.groupby("shop"):
        dates = pd.date_range(rows["day"].max(), periods=steps + 1, freq=freq)[1:]
        pieces.append(
            pd.DataFrame(
                {
                    "shop": store,
                    "day": dates.strftime("%Y-%m-%d"),
                    "tv_cost": np.arange(steps) + 1.0,
                    "web_views": np.arange(steps) * 10.0,
                    "price": 7.5,
                }
            )
        )
    return pd.concat(pieces, ignore_index=True)


def _with(column: str, row: int, value: object) -> Callable[[Path], Table]:
    """The good panel with one cell changed; row 0-39 is store A, 40-79 B, 80-119 C."""

    def build(_: Path) -> Table:
        frame = good()
        if isinstance(value, str | bool):
            frame[column] = frame[column].astype(object)
        frame.loc[row, column] = value
        return frame

    return build


def _changed(change: Callable[[pd.DataFrame], pd.DataFrame]) -> Callable[[Path], Table]:
    return lambda _: change(good()).reset_index(drop=True)


def _file(name: str, content: bytes) -> Callable[[Path], Table]:
    def build(folder: Path) -> Table:
        (folder / name).write_bytes(content)
        return folder / name

    return build


def _csv(encoding: str = "utf-8") -> bytes:
    return good().to_csv(index=False).encode(encoding)


def _schema(**changes: Any) -> dict[str, Any]:
    return {k: v for k, v in {**SCHEMA, **changes}.items() if v != "drop"}


def _weekly_store(frame: pd.DataFrame) -> pd.DataFrame:
    days = pd.to_datetime(frame["day"])
    return frame[(frame["shop"] != "B") | (days.dt.day_of_week == 0)]


def _two_anchors(_: Path) -> Table:
    monday, sunday = good(2, 20, "W-MON"), good(3, 20, "W-SUN")
    return pd.concat([monday, sunday[sunday["shop"] == "C"]], ignore_index=True)


def _stray(_: Path) -> Table:
    frame = good(2, 20, "W-MON")
    frame.loc[5, "day"] = "2024-02-07"
    return frame


def _stamps(texts: list[str]) -> Callable[[Path], Table]:
    def build(_: Path) -> Table:
        frame = good(1, len(texts))
        frame["day"] = texts
        return frame

    return build


_DAYS = pd.date_range("2024-03-20", periods=20)

CASES: tuple[Case, ...] = (
    # columns
    Case("spend column is missing", "missing-column", _changed(lambda f: f.drop(columns="tv_cost")),
         ("tv_cost", "channel 'tv'"), column="tv_cost"),
    Case("target column is missing", "missing-column", _changed(lambda f: f.drop(columns="sales")),
         ("sales", "target"), column="sales"),
    Case("store column is missing", "missing-column", _changed(lambda f: f.drop(columns="shop")),
         ("shop", "store"), column="shop"),
    Case("date column is missing", "missing-column", _changed(lambda f: f.drop(columns="day")),
         ("day", "date"), column="day"),
    Case("a column comes twice", "repeated-column",
         _file("twice.csv", b"shop,day,tv_cost,tv_cost,sales\nA,2024-01-01,1,2,3\n"),
         ("tv_cost",), column="tv_cost"),
    # rows
    Case("a store has a date twice", "duplicate-row",
         _changed(lambda f: pd.concat([f, f.iloc[[45]]])), ("Store 'B'", "2024-01-06"),
         column="day", store="B", date="2024-01-06"),
    Case("a store lacks dates", "gap", _changed(lambda f: f.drop(index=[90, 91])),
         ("'C'", "2 missing dates", "2024-01-11"), column="day", store="C", date="2024-01-11"),
    Case("a history is too short", "short-history", _changed(lambda f: f.iloc[:83]),
         ("'C'", "3 steps"), store="C", date="2024-01-01"),
    Case("rows have no store", "missing-store", _with("shop", 3, None), ("row 4", "shop"),
         column="shop", date="2024-01-04"),
    Case("rows have no date", "missing-date", _with("day", 42, None), ("row 43", "'B'"),
         column="day", store="B"),
    Case("dates repeat without a store column", "no-store-column", lambda _: good(), ("day",),
         column="day", schema=_schema(store="drop")),
    # dates
    Case("a date is no date", "unparsable-date", _with("day", 41, "soon"), ("'soon'", "'B'"),
         column="day", store="B"),
    Case("dates are local midnights in UTC", "time-zone",
         _stamps([f"{d:%Y-%m-%d}T22:00:00Z" for d in _DAYS]), ("zone", "22:00"), column="day",
         date="2024-03-20"),
    Case("dates change their time zone", "mixed-time-zone",
         _stamps([f"{d:%Y-%m-%d} 00:00:00+0{1 + (d.month > 3)}:00" for d in _DAYS]),
         ("+01:00", "+02:00"), column="day"),
    Case("rows are hourly", "time-of-day",
         _stamps([f"2024-01-01 {hour:02d}:00" for hour in range(24)]), ("01:00",), column="day",
         date="2024-01-01"),
    Case("day and month cannot be told apart", "ambiguous-date",
         _stamps([*(f"0{i}/0{i}/2024" for i in range(1, 9)), "01/02/2024", "02/01/2024"]),
         ("two ways",), column="day"),
    Case("one store is weekly in a daily panel", "mixed-frequency", _changed(_weekly_store),
         ("'B'", "weekly", "daily"), column="day", store="B", date="2024-01-01"),
    Case("weeks start on different days", "mixed-frequency", _two_anchors,
         ("'C'", "SUN", "MON"), column="day", store="C", date="2024-01-07"),
    Case("one week starts on another day", "irregular-date", _stray, ("'A'", "2024-02-07", "MON"),
         column="day", store="A", date="2024-02-07"),
    Case("dates are three days apart", "no-frequency", lambda _: good(2, 20, "3D"), ("day",),
         column="day", store="A", date="2024-01-01"),
    Case("the schema names another frequency", "wrong-frequency", lambda _: good(),
         ("daily", "'MS'"), column="day", date="2024-01-01", schema=_schema(freq="MS")),
    # values
    Case("spend holds text", "non-numeric", _with("tv_cost", 47, "n.a."),
         ("'n.a.'", "'B'", "2024-01-08"), column="tv_cost", store="B", date="2024-01-08"),
    Case("spend has decimal commas", "non-numeric", _with("tv_cost", 0, "1.234,50"),
         ("'1.234,50'",), column="tv_cost", store="A", date="2024-01-01"),
    Case("spend holds yes and no", "non-numeric",
         _changed(lambda f: f.assign(tv_cost=f["tv_cost"] > 9)), ("tv_cost", "all stores"),
         column="tv_cost"),
    Case("spend holds dates", "non-numeric", _changed(lambda f: f.assign(tv_cost=f["day"])),
         ("2024-01-01", "all stores"), column="tv_cost"),
    Case("spend is infinite", "infinite-value", _with("tv_cost", 100, np.inf),
         ("'C'", "2024-01-21"),
         column="tv_cost", store="C", date="2024-01-21"),
    Case("a number is too large to hold", "infinite-value", _with("sales", 1, 1e300), ("sales",),
         column="sales", store="A", date="2024-01-02"),
    Case("a number is near the end of single precision", "huge-value", _with("sales", 1, 3e30),
         ("Target 'sales'", "1e+15", "'A'"), column="sales", store="A", date="2024-01-02"),
    Case("a control is huge and negative", "huge-value", _with("price", 50, -1e20),
         ("Control 'price'",), column="price", store="B", date="2024-01-11"),
    Case("context is huge", "huge-value", _changed(lambda f: f.assign(size=4e18)), ("all stores",),
         column="size"),
    Case("spend is tiny", "tiny-value", _changed(lambda f: f.assign(tv_cost=f["tv_cost"] * 1e-30)),
         ("Spend 'tv_cost'", "1e-15"), column="tv_cost"),
    Case("spend is missing", "missing-value", _with("tv_cost", 50, np.nan), ("'B'", "2024-01-11"),
         column="tv_cost", store="B", date="2024-01-11"),
    Case("the target is missing", "missing-value", _with("sales", 7, np.nan), ("'A'", "2024-01-08"),
         column="sales", store="A", date="2024-01-08"),
    Case("future rows stand in the history", "missing-value",
         _changed(lambda f: f.assign(sales=f["sales"].where(f.index % 40 < 35))), ("'A'", "5 rows"),
         column="sales", store="A", date="2024-02-05"),
    Case("a control is missing", "missing-value", _with("price", 20, np.nan), ("price",),
         column="price", store="A", date="2024-01-21"),
    Case("context is missing", "missing-value", _with("size", 20, np.nan), ("size",),
         column="size", store="A", date="2024-01-21"),
    Case("a column is empty", "all-null", _changed(lambda f: f.assign(web_views=np.nan)),
         ("web_views", "120 rows"), column="web_views"),
    Case("a store has nothing to interpolate", "all-missing",
         _changed(lambda f: f.assign(visits=f["visits"].where(f["shop"] != "B"))), ("'B'",),
         column="visits", store="B", date="2024-01-01", nan="interpolate"),
    Case("spend is negative", "negative-spend", _with("tv_cost", 81, -3.0), ("'C'", "2024-01-02"),
         column="tv_cost", store="C", date="2024-01-02"),
    Case("exposure is negative", "negative-exposure", _with("web_views", 2, -1.0), ("'A'",),
         column="web_views", store="A", date="2024-01-03"),
    Case("context moves against the schema", "context-moves", _with("size", 60, 9.0), ("'B'",),
         column="size", store="B", schema=_schema(context_moves=False)),
    Case("population moves", "population-moves", _with("people", 60, 9.0), ("'B'",),
         column="people", store="B"),
    # schema
    Case("a column has two roles", "column-in-two-roles", lambda _: good(),
         ("'price'", "control", "mediator"), column="price", schema=_schema(mediators=["price"])),
    Case("the schema has an unknown key", "unknown-key", lambda _: good(), ("chanels",),
         column="chanels", schema=_schema(chanels=["tv_cost"])),
    Case("the schema names no target", "missing-key", lambda _: good(), ("target",),
         column="target", schema=_schema(target="drop")),
    Case("the schema names no channel", "no-channel", lambda _: good(), ("channel",),
         schema=_schema(channels={})),
    Case("a channel has no column", "channel-without-column", lambda _: good(), ("tv",),
         column="channels.tv", schema=_schema(channels={"tv": {}})),
    Case("two series share a name", "duplicate-node", lambda _: good(), ("'sales'",),
         column="sales", schema=_schema(channels={"sales": "tv_cost"})),
    Case("a channel is named as answers name the baseline", "reserved-name", lambda _: good(),
         ("'Baseline'",), column="Baseline", schema=_schema(channels={"Baseline": "tv_cost"})),
    Case("a channel is named like a path", "reserved-name", lambda _: good(), ("'a -> b'",),
         column="a -> b", schema=_schema(channels={"a -> b": "tv_cost"})),
    Case("the frequency is unknown", "unknown-frequency", lambda _: good(), ("freq",),
         column="freq", schema=_schema(freq="hourly")),
    Case("the missing-value policy is unknown", "unknown-policy", lambda _: good(), ("guess",),
         column="target", nan={"target": "guess"}),
    # files
    Case("the file is empty", "empty-file", _file("empty.csv", b""), ("empty.csv",)),
    Case("the file has no header", "no-header", _file("blank.csv", b"\n" + _csv()), ("blank.csv",)),
    Case("the file has only a header", "no-rows", _file("header.csv", _csv().split(b"\n")[0]),
         ("no rows",)),
    Case("the file is not there", "no-such-file", lambda folder: folder / "nowhere.csv",
         ("nowhere.csv",)),
    Case("the file is an old spreadsheet", "unknown-format", _file("book.xls", b"\xd0\xcf"),
         ("book.xls", "CSV")),
    Case("the workbook is damaged", "unreadable-file", _file("book.xlsx", b"PK"), ("book.xlsx",)),
    Case("the archive is damaged", "unreadable-file", _file("data.zip", b"PK"), ("data.zip",)),
    Case("the Parquet file is cut off", "unreadable-file", _file("cut.parquet", b"PAR1 and so on"),
         ("cut.parquet",)),
    Case("a line has too many values", "unreadable-file",
         _file("ragged.csv", _csv() + b"C,2024-02-10,1,2,3,4,5,6,7,8,9,10,11\n"), ("ragged.csv",)),
    Case("the text is not UTF-8", "encoding",
         _file("latin.csv", _csv().replace(b"A,", "Ä,".encode("latin-1"))), ("latin.csv", "UTF-8")),
    # doubts
    Case("a channel is never used", "zero-channel", _changed(lambda f: f.assign(tv_cost=0.0)),
         ("tv", "every store"), column="tv_cost", severity="warning"),
    Case("a channel never changes", "constant-channel", _changed(lambda f: f.assign(tv_cost=5.0)),
         ("tv", "every store"), column="tv_cost", severity="warning"),
    Case("a store's target never changes", "constant-target",
         _changed(lambda f: f.assign(sales=f["sales"].where(f["shop"] != "C", 3.0))), ("'C'",),
         column="sales", store="C", severity="warning"),
    Case("a control never changes", "constant-control", _changed(lambda f: f.assign(price=7.0)),
         ("price", "every store"), column="price", severity="warning"),
    Case("a channel repeats another in other units", "twin-series",
         _changed(lambda f: f.assign(web_views=f["tv_cost"] * 0.3)), ("'web'", "channel 'tv'"),
         column="web_views", severity="warning"),
    Case("a mediator is the target", "twin-series",
         _changed(lambda f: f.assign(sales=f["visits"])), ("Target 'sales'", "mediator 'visits'"),
         column="sales", severity="warning"),
    Case("the target is negative", "negative-target", _with("sales", 3, -5.0), ("'A'",),
         column="sales", store="A", date="2024-01-04", severity="warning"),
    Case("money without exposure", "spend-without-exposure", _with("web_views", 3, 0.0),
         ("'web'", "'A'"), column="web", store="A", date="2024-01-04", severity="warning"),
    Case("a store's name has spaces", "store-name-spaces",
         _changed(lambda f: f.assign(shop=f["shop"].replace("B", "B "))), ("'B '",),
         column="shop", store="B ", severity="warning"),
)  # fmt: skip

REFUSED = tuple(case for case in CASES if case.severity == "error")


PLAN_CASES: tuple[Case, ...] = (
    Case("the plan starts late", "plan-start",
         lambda _: plan(good()).groupby("shop").tail(4), ("'A'", "2024-02-11", "2024-02-09"),
         column="day", store="A", date="2024-02-11"),
    Case("the plan overlaps the history", "plan-start",
         lambda _: plan(good(3, 39)), ("'A'", "2024-02-09"), column="day", store="A",
         date="2024-02-09"),
    Case("the plan has a gap", "gap", lambda _: plan(good()).drop(index=[2, 7, 12]),
         ("'A'", "2024-02-12"), column="day", store="A", date="2024-02-12"),
    Case("the plan repeats a date", "duplicate-row",
         lambda _: pd.concat([plan(good()), plan(good()).iloc[[6]]]), ("'B'",),
         column="day", store="B", date="2024-02-11"),
    Case("the plan has another frequency", "wrong-frequency",
         lambda _: plan(good(), freq="W-MON"), ("weekly",), column="day",
         date="2024-02-19"),
    Case("the plan names an unknown store", "unknown-store",
         lambda _: plan(good(4)), ("'D'",), column="shop", store="D"),
    Case("the plan lacks a store", "plan-store-missing",
         lambda _: plan(good(2)), ("'C'",), column="day", store="C"),
    Case("plans differ in length", "plan-horizon",
         lambda _: plan(good()).drop(index=[9]), ("'B'", "4"), column="day", store="B"),
    Case("planned spend is negative", "negative-spend",
         lambda _: plan(good()).assign(tv_cost=-1.0), ("all stores",), column="tv_cost"),
    Case("planned spend is missing", "missing-value",
         lambda _: plan(good()).assign(tv_cost=[np.nan] + [1.0] * 14), ("'A'",), column="tv_cost",
         store="A", date="2024-02-10"),
    Case("a known control is not planned", "missing-column",
         lambda _: plan(good()).drop(columns="price"), ("price",), column="price"),
    Case("the plan has no dates", "missing-column",
         lambda _: plan(good()).drop(columns="day"), ("day",), column="day"),
    Case("the plan has no rows", "no-rows", lambda _: plan(good()).iloc[:0], ("plan",)),
)  # fmt: skip


def write(case: Case, folder: Path) -> Path:
    """Write the case's table and a configuration that names it; return the configuration."""
    table = case.build(folder)
    if isinstance(table, pd.DataFrame):
        path = folder / "data.csv"
        table.to_csv(path, index=False)
    else:
        path = table
    data: dict[str, Any] = {"path": path.name}
    if case.nan is not None:
        data["nan"] = case.nan
    config = folder / "causalmmm.yml"
    schema = dict(case.schema or SCHEMA)
    config.write_text(yaml.safe_dump({"schema": schema, "data": data}, sort_keys=False))
    return config
