"""Files as people keep them: folders, archives, workbooks, decimal commas, gaps, business days."""

from __future__ import annotations

import gzip
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from causalmmm import Config, Panel, PanelError, TableFile, validate
from causalmmm.data import text_files
from causalmmm.data.guess_settings import guess_table
from causalmmm.data.readers import open_source

SCHEMA = {
    "store": "Filiale",
    "date": "Datum",
    "target": "Umsatz",
    "channels": {"TV": "TV Kosten"},
    "controls": ["preis_index"],
}


def shops(dates: Any, stores: tuple[str, ...] = ("Köln", "Aachen")) -> pd.DataFrame:
    """Sales above 1,000, with decimals; one price for every month."""
    rng = np.random.default_rng(0)
    frame = pd.MultiIndex.from_product([stores, dates], names=["Filiale", "Datum"]).to_frame(
        index=False
    )
    for name in ("TV Kosten", "Umsatz"):
        frame[name] = rng.gamma(9, 700, len(frame)).round(2)
    frame["preis_index"] = 100.0 + frame["Datum"].dt.month
    return frame


def german(frame: pd.DataFrame) -> str:
    """The text of the table as a German program exports it."""
    texts = frame.assign(Datum=frame["Datum"].dt.strftime("%d.%m.%Y"))
    for name in frame.columns[2:]:
        swapped = frame[name].map("{:,.2f}".format).str.translate(str.maketrans(",.", ".,"))
        texts[name] = swapped.mask(frame[name].isna(), "")
    return texts.to_csv(sep=";", index=False)


WEEKS = pd.date_range("2024-01-01", periods=30, freq="7D")


def same(panel: Panel, frame: pd.DataFrame) -> bool:
    plain = Panel.from_frame(frame, SCHEMA)
    return np.array_equal(panel.data.values, plain.data.values) and list(panel.stores) == list(
        plain.stores
    )


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
def test_init_finds_out_how_a_german_table_is_written(tmp_path: Path, encoding: str) -> None:
    file = tmp_path / "umsatz.csv"
    file.write_text(german(shops(WEEKS)), encoding=encoding)
    config = Config.parse(Config.template(file))
    assert (config.data.decimal, config.data.thousands) == (",", ".")
    assert config.data.encoding == ("cp1252" if encoding == "cp1252" else "utf-8")
    assert same(Panel.read(config.data.table, SCHEMA), shops(WEEKS))


def test_nothing_is_read_in_another_way_than_was_asked_for(tmp_path: Path) -> None:
    file = tmp_path / "umsatz.csv"
    file.write_text(german(shops(WEEKS)).replace(",00", ""), encoding="utf-8")
    for asked in ({}, {"decimal": ","}):  # 1.234 with a decimal comma is a question, not 1.234
        report = validate(TableFile(file, **asked), SCHEMA)
        (found, *_) = [f for f in report.errors if f.column == "Umsatz"]
        assert found.code == "non-numeric"
        assert "data.thousands" in found.remedy
    with pytest.raises(PanelError, match="cannot stand before decimals"):
        TableFile(file, decimal=",", thousands=",")
    with pytest.raises(PanelError, match="no encoding"):
        TableFile(file, encoding="latin-99")


def test_points_that_may_be_decimals_are_not_taken_for_thousands(tmp_path: Path) -> None:
    file, asked = tmp_path / "plan.csv", {"decimal": ",", "thousands": "."}
    for cells, doubtful in (
        (["123.456", "1.234"], True),  # as a program with decimal points writes them
        (["123.456", '"1.234,5"'], False),
        (["123456", "1234"], False),
    ):
        file.write_text("date,tv\n" + "".join(f"2024-01-0{n},{c}\n" for n, c in enumerate(cells)))
        if doubtful:
            with pytest.raises(PanelError, match=r"thousands or decimals.*\n?") as refused:
                open_source(TableFile(file, **asked), {"date"}.__contains__)
            assert refused.value.report.errors[0].column == "tv"
        else:
            read = open_source(TableFile(file, **asked), {"date"}.__contains__).column("tv")
            assert read.tolist() == [123456, 1234.5 if '"' in cells[1] else 1234]


@pytest.mark.parametrize(
    ("cells", "signs"),
    [
        (["1,234.5", "12.0"], (".", ",")),
        (["1,234,567", "12"], (".", ",")),
        (["1.234.567", "12"], (",", ".")),
        (["12,5", "1.234"], (",", ".")),
        (["1 234,5", "12,25"], (",", " ")),
        (["1'234.5", "12.25"], (".", "'")),
        (["1,234", "5,678"], (".", "")),  # cannot be told: refused when it is read
        (["1,234.5", "12,25"], (".", "")),  # contradiction
        (["Nord, 1", "Süd, 2"], (".", "")),
    ],
)
def test_number_signs_are_guessed_only_where_a_number_decides(
    tmp_path: Path, cells: list[str], signs: tuple[str, str]
) -> None:
    file = tmp_path / "t.csv"
    file.write_text("date;x\n" + "\n".join(f"2024-01-01;{cell}" for cell in cells))
    table, _ = guess_table(file)
    assert isinstance(table, TableFile)
    assert (table.decimal, table.thousands) == signs


def test_folders_and_archives_are_one_table(tmp_path: Path) -> None:
    frame, folder = shops(WEEKS), tmp_path / "filialen"
    folder.mkdir()
    for store, rows in frame.groupby("Filiale"):
        rows.to_csv(folder / f"{store}.csv", index=False)
    (folder / "read me.pdf").write_bytes(b"%PDF")
    (folder / ".hidden.csv").write_text("nothing")
    with zipfile.ZipFile(tmp_path / "filialen.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for path in folder.iterdir():
            archive.write(path, f"2024/{path.name}")
    for path in (folder, tmp_path / "filialen.zip"):
        panel = Panel.read(path, SCHEMA)
        assert same(panel, frame)
        assert {"several-files", "other-files"} <= panel.report.codes
        assert Config.parse(Config.template(path)).data.path == path

    frame.drop(columns="Umsatz").to_csv(folder / "Zusatz.csv", index=False)
    (found,) = validate(folder, SCHEMA).errors
    assert (found.code, found.column) == ("other-columns", "Umsatz")
    assert "Zusatz.csv" in found.message
    for path in folder.glob("*.csv"):
        path.unlink()
    assert validate(folder, SCHEMA).errors[0].code == "no-table"


def test_a_file_that_unfolds_without_end_is_refused_before_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(text_files, "_UNSUSPICIOUS", 2**20)
    bomb = b"store,date,sales\n" + b"0" * (2 * 2**20)
    packed = gzip.compress(bomb, 1)
    (tmp_path / "bomb.csv.gz").write_bytes(packed)
    for name, inner in (("bomb.zip", "bomb.csv"), ("bomb.xlsx", "xl/worksheets/sheet1.xml")):
        with zipfile.ZipFile(tmp_path / name, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as file:
            file.writestr(inner, bomb)
    for name in ("bomb.csv.gz", "bomb.zip", "bomb.xlsx"):
        assert validate(tmp_path / name, SCHEMA).errors[0].code == "unfolds"


def test_workbooks_are_read_sheet_by_sheet(tmp_path: Path) -> None:
    frame, book = shops(WEEKS), tmp_path / "Mappe.xlsx"
    with pd.ExcelWriter(book) as writer:
        pd.DataFrame().to_excel(writer, sheet_name="leer", index=False)
        frame.to_excel(writer, sheet_name="Daten", index=False, startrow=2)
        pd.DataFrame({"x": [1]}).to_excel(writer, sheet_name="Notizen", index=False)
    panel = Panel.read(book, SCHEMA)
    assert same(panel, frame)
    (told,) = [finding for finding in panel.notices if finding.code == "other-sheets"]
    assert "Notizen" in told.message
    assert same(Panel.read(TableFile(book, sheet="Daten"), SCHEMA), frame)
    missing = validate(TableFile(book, sheet="Blatt 9"), SCHEMA).errors[0]
    assert (missing.code, "Notizen" in missing.remedy) == ("no-such-sheet", True)


def test_a_workbook_without_openpyxl_names_the_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "Mappe.xlsx").write_bytes(b"PK")
    monkeypatch.setitem(sys.modules, "openpyxl", None)
    (found,) = validate(tmp_path / "Mappe.xlsx", SCHEMA).errors
    assert (found.code, "causalmmm[excel]" in found.remedy) == ("no-excel", True)


def test_business_days_are_guessed_and_weekends_are_closed(tmp_path: Path) -> None:
    frame = shops(pd.bdate_range("2024-01-01", periods=60))
    frame.to_csv(tmp_path / "tage.csv", index=False)
    refused = validate(frame, SCHEMA).errors
    assert [(f.code, "business_days" in f.remedy) for f in refused] == [("gap", True)]
    config = Config.parse(Config.template(tmp_path / "tage.csv"))
    assert config.data.business_days
    panel = Panel.from_frame(frame, SCHEMA, business_days=True).select("Köln")
    weekend = panel.dates("Köln").day_of_week >= 5
    assert weekend.sum() == 22
    assert (panel.data.values[weekend] == 0).all()
    assert (panel.data.values[~weekend] > 0).all()
    assert (panel.data.controls > 0).all()  # a price goes on
    holiday = frame[frame["Datum"] != "2024-01-10"]
    assert "gap" in validate(holiday, SCHEMA, business_days=True).codes
    assert "no-business-days" in validate(shops(WEEKS), SCHEMA, business_days=True).codes


def test_gaps_are_filled_or_left_out_as_asked() -> None:
    frame = shops(WEEKS)
    gappy = frame.drop(index=[5, 6, 12])  # of Köln, the first store of the table
    assert validate(gappy, SCHEMA).errors[0].code == "gap"
    zero = Panel.from_frame(gappy, SCHEMA, gaps="zero").select("Köln")
    carried = Panel.from_frame(gappy, SCHEMA, gaps="carry").select("Köln")
    whole = Panel.from_frame(frame, SCHEMA).select("Köln")
    added = np.isin(np.arange(30), [5, 6, 12])
    assert (zero.data.values[added] == 0).all()
    assert np.array_equal(zero.data.values[~added], whole.data.values[~added])
    assert np.array_equal(carried.data.values[added], whole.data.values[[4, 4, 11]])
    assert np.array_equal(zero.data.controls[added], whole.data.controls[[4, 4, 11]])
    left = Panel.from_frame(gappy, SCHEMA, gaps="leave-out")
    assert left.lengths.tolist() == [30, 17]
    assert np.array_equal(left.select("Köln").data.values, whole.data.values[13:])
    assert {"began-after-gap"} <= left.report.codes

    late = frame.drop(index=range(20, 28))
    assert validate(late, SCHEMA, gaps="leave-out").errors[0].code == "short-history"
    far = frame.assign(Datum=frame["Datum"].mask(frame.index == 29, pd.Timestamp("2199-12-30")))
    assert validate(far, SCHEMA, gaps="zero").errors[0].code == "gap"
    assert validate(frame, SCHEMA, gaps="guess").errors[0].code == "unknown-policy"


def test_monthly_controls_are_carried_into_weeks(tmp_path: Path) -> None:
    frame = shops(WEEKS)
    month = frame["Datum"].dt.to_period("M").astype(str) + frame["Filiale"]
    sparse = frame.assign(preis_index=frame["preis_index"].mask(month.duplicated()))
    sparse.to_csv(tmp_path / "t.csv", index=False)
    assert "carry" in validate(sparse, SCHEMA).errors[0].remedy
    config = Config.parse(Config.template(tmp_path / "t.csv"))
    assert isinstance(config.data.nan, dict)
    assert config.data.nan["controls"] == "carry"
    panel = Panel.read(config.data.table, SCHEMA, nan=config.data.nan)
    assert np.array_equal(panel.data.controls, Panel.from_frame(frame, SCHEMA).data.controls)
    assert "carried-forward" in panel.report.codes
