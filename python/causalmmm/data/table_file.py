"""``TableFile``: where a table lies and how its text is written, and numbers in such text."""

from __future__ import annotations

import codecs
import re
from collections.abc import Callable
from dataclasses import dataclass
from os import PathLike, fspath
from typing import Any

import numpy as np
import pandas as pd

from causalmmm.data.sources import Source
from causalmmm.findings import Finding, PanelError, Report, first_few, refusal

DECIMALS = (".", ",")
THOUSANDS = ("", ",", ".", "'", " ")
_SPACES = "[ \u00a0\u202f]"  # with those that do not break a line


@dataclass(frozen=True)
class TableFile:
    """A file, folder or archive, and how its text is written; usable wherever a path is.

    path       CSV, Parquet or Excel file, a ``.zip`` with such files, or a folder of them.
    decimal    "." or ",", the sign before decimals in text.
    thousands  "", ",", ".", "'" or " ", the sign between thousands in text.
    encoding   of CSV files, as Python names it; a byte order mark overrides it.
    sheet      of Excel files; None: the first one that is not empty.

    Raises ``PanelError`` for another sign or an unknown encoding.

    >>> TableFile("umsatz.csv", decimal=",", thousands=".", encoding="cp1252").decimal
    ','
    """

    path: str | PathLike[str]
    decimal: str = "."
    thousands: str = ""
    encoding: str = "utf-8"
    sheet: str | None = None

    def __post_init__(self) -> None:
        wrong = wrong_settings(self.decimal, self.thousands, self.encoding)
        Report.of(wrong).raise_for_errors()

    def __fspath__(self) -> str:
        return fspath(self.path)

    def reads_numbers(self, source: Source, as_text: Callable[[str], bool]) -> Source:
        """The same table, with text such as 1.234,5 read as numbers outside the key columns."""
        if (self.decimal, self.thousands) == (".", ""):
            return source

        def fetch(name: str, first: int | None) -> pd.Series[Any]:
            series = source.column(name, first)
            return series if as_text(name) else self._numbers(series)

        return Source(source.names, source.rows, fetch, source.notices)

    def refuse_doubtful_points(self, frame: pd.DataFrame, delimiter: str, name: str) -> None:
        """Refuse a CSV file whose points could be decimals although a comma was said to be.

        Where commas separate columns, numbers with a decimal comma are in quotes. A file without
        any may well have decimal points, and 123.456 would be read as 123456.
        """
        if delimiter != self.decimal or self.thousands != ".":
            return
        comma, grouped = rf"[+-]?[\d.]*\d{delimiter}\d+", self._pattern()
        doubtful = None
        for column in frame.select_dtypes(["object", "str", "string"]):
            texts = pd.Series(frame[column].dropna().unique()).astype("str").str.strip()
            if texts.str.fullmatch(comma).any():
                return
            points = texts[texts.str.fullmatch(grouped) & texts.str.contains(".", regex=False)]
            if doubtful is None and len(points):
                doubtful = str(column), points.iloc[0]
        if doubtful is not None:
            column, example = doubtful
            raise refusal(
                "doubtful-points",
                f"'{name}' is separated by commas and has no decimal comma anywhere, but numbers "
                f"such as {example} in '{column}': thousands or decimals?",
                "Separate the columns by semicolons if points stand between thousands; write the "
                "decimals with a comma, or leave data.decimal out, if they are decimals.",
                kind=PanelError,
                column=column,
            )

    def _numbers(self, series: pd.Series[Any]) -> pd.Series[Any]:
        """Numbers if all texts are; else text, in which numbers have a decimal point."""
        if not isinstance(series.dtype, pd.CategoricalDtype) or not len(series.cat.categories):
            return series
        texts = pd.Series(series.cat.categories).astype("str").str.strip()
        matches = texts.str.fullmatch(self._pattern()).to_numpy(bool)
        bare = texts.str.replace(self._between(), "", regex=True) if self.thousands else texts
        plain = bare.str.replace(self.decimal, ".", regex=False)
        codes = series.cat.codes.to_numpy()
        if matches.all():
            return pd.Series(np.append(plain.astype(np.float64), np.nan)[codes])
        if self.decimal == ",":  # 1.234 is not 1234 unless that was said, and never 1.234
            point = texts.str.contains(".", regex=False) & ~matches
            texts = texts.where(~point, texts + " (with a point)")
        mixed, distinct = pd.factorize(plain.where(matches, texts))
        return pd.Series(pd.Categorical.from_codes(np.append(mixed, -1)[codes], distinct))

    def _between(self) -> str:
        return _SPACES if self.thousands == " " else re.escape(self.thousands)

    def _pattern(self) -> str:
        grouped = rf"\d{{1,3}}(?:{self._between()}\d{{3}})+|" if self.thousands else ""
        return rf"[+-]?(?:{grouped}\d+)(?:{re.escape(self.decimal)}\d*)?(?:[eE][+-]?\d+)?"


def wrong_settings(decimal: str, thousands: str, encoding: str) -> list[Finding]:
    """What is wrong with how text is said to be written; ``column`` is the name of the setting."""
    findings = []
    for name, sign, known in (("decimal", decimal, DECIMALS), ("thousands", thousands, THOUSANDS)):
        if sign not in known:
            told = f"'{sign}' cannot be the sign '{name}' of numbers."
            remedy = f"Use one of {first_few(known)}."
            findings.append(Finding("error", "bad-number-signs", told, remedy, name))
    if decimal == thousands:
        told = f"'{decimal}' cannot stand before decimals and between thousands."
        remedy = "Leave one of the two settings out."
        findings.append(Finding("error", "bad-number-signs", told, remedy, "thousands"))
    if not _known_encoding(encoding):
        told = f"'{encoding}' is no encoding of text."
        remedy = "Use utf-8, cp1252, latin-1 or utf-16."
        findings.append(Finding("error", "unknown-encoding", told, remedy, "encoding"))
    return findings


def _known_encoding(name: str) -> bool:
    """Whether Python knows this encoding, and it is one of text."""
    try:
        return isinstance(codecs.decode(b"", name), str) and "\0" not in name
    except (LookupError, ValueError, TypeError):
        return False
