"""Guessing what the columns of a table are, from the names that common tools give them.

Every guess is recorded with its reason; whoever knows better writes a ``Schema``. Values are
looked at only where a name says nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from causalmmm.data.readers import Readable, Source, open_source
from causalmmm.data.schema import Schema
from causalmmm.findings import Finding, PanelError, first_few

# Names in order of preference, compared without case.
STORE = (
    "store",
    "unique_id",
    "geo",
    "region",
    "shop_id",
    "dmacode",
    "market",
    "store_id",
    "shop",
    "dma",
    "brand",
    "advertiser",
    "advertiser_id",
)
DATE = ("date", "ds", "time", "week", "date_week", "wk_strt_dt", "day", "month", "timestamp")
TARGET = ("target", "y", "gmv", "sales", "revenue", "kpi", "conversions", "orders")

_AMOUNT = r"\s*[^\d\s]{0,4}\s*\d[\d.,' ]*\s*[^\d\s]{0,4}\s*"
# Rows of a column that are looked at where its name says nothing.
_LOOKED_AT = 10_000

# (role, pattern, why); the first that matches decides. A group names the channel.
_RULES: tuple[tuple[str, re.Pattern[str], str], ...] = tuple(
    (role, re.compile(pattern), why)
    for role, pattern, why in (
        ("revenue", r"(?i)revenue_per_\w+", "named as money per unit of target"),
        ("population", r"(?i)population", "named as the size of the store"),
        (
            "calendar",
            r"(?i)t|trend|day_?of_?(year|week|month)|week_?of_?year|weekday|quarter|year"
            r"|month|week|day",
            "a calendar counter; the model has its own calendar",
        ),
        ("context", r"(?i)context(_?\w+)?|\w+_context", "named as context"),
        (
            "known",
            r"(?i)(is_)?(holiday|weekend)\w*|event_?\w*|promo(tion)?\w*",
            "named as a calendar event, whose future is known",
        ),
        (
            "control",
            r"(?i)\w+_controls?|c\d+|control_?\w*|competitor\w*|price|temperature|weather\w*",
            "named as a control",
        ),
        ("control", r"\w+_B", "ends in _B, a baseline variable in Robyn"),
        ("organic", r"(?i)organic\w*|\w+_organic|newsletter\w*", "named as an organic channel"),
        ("organic", r"\w+_O", "ends in _O, an organic variable in Robyn"),
        (
            "mediator",
            r"(?i)[pu]v|page_?views?|visits|sessions|\w+_mediator|brand(ed)?_search(es)?",
            "named as a step between channels and target",
        ),
        ("spend", r"(?i)(?P<channel>.+)[_ .-](spend|cost)s?", "named as spend"),
        ("spend", r"(?i)(spend|cost)[_ .-](?P<channel>.+)", "named as spend"),
        ("spend", r"(?P<channel>.+)_S", "ends in _S, spend in Robyn"),
        ("exposure", r"(?P<channel>.+?)(_clicks?)?_[IP]", "ends in _I or _P, exposure in Robyn"),
        (
            "exposure",
            r"(?i)(?P<channel>.+)[_ .-](exposure|impression|click|view|grp)s?",
            "named as exposure",
        ),
        ("spend", r"(?i)(?P<channel>x_?\d+)", "named like a channel in AirMMM or PyMC-Marketing"),
        (
            "spend",
            r"(?i)(?P<channel>(tv|radio|print|ooh|search|social|display|facebook|fb|meta|google"
            r"|bing|tiktok|youtube|video|feed|email|affiliates?|influencers?|banner|instagram"
            r"|newspapers?|magazines?|billboards?|cinema|podcasts?|media)(_?\w+)?)",
            "named like a channel, read as its spend",
        ),
    )
)


def is_key(name: str) -> bool:
    """Whether a column of this name would be read as store or date."""
    return name.strip().lower() in {*STORE, *DATE}


def guess_schema(data: Readable | Iterable[str]) -> tuple[Schema, list[Finding]]:
    """See ``Schema.guess``."""
    if isinstance(data, Source):
        return _Guess(data.names, data).schema()
    if isinstance(data, (list, tuple, pd.Index)):
        return _Guess([str(name) for name in data], None).schema()
    source = open_source(data, is_key)
    return _Guess(source.names, source).schema()


@dataclass
class _Guess:
    names: list[str]
    source: Source | None
    notices: list[Finding] = field(default_factory=list)
    spend: dict[str, str] = field(default_factory=dict)
    exposure: dict[str, str] = field(default_factory=dict)
    lists: dict[str, list[Any]] = field(
        default_factory=lambda: {"organic": [], "mediator": [], "control": [], "context": []}
    )
    single: dict[str, str] = field(default_factory=dict)
    unknown: list[str] = field(default_factory=list)

    def schema(self) -> tuple[Schema, list[Finding]]:
        left = list(self.names)
        for role, known in (("store", STORE), ("date", DATE), ("target", TARGET)):
            found = self._pick(left, known)
            if found is None and role == "date":
                found = next((name for name in left if self._kind(name) == "date"), None)
            if found is not None:
                left.remove(found)
                self.single[role] = found
                self._note(found, role, "a usual name for it")
        for name in left:
            self._assign(name)
        self._settle_unknown()
        self._refuse_incomplete()
        channels = {
            channel: {"spend": self.spend.get(channel), "exposure": self.exposure.get(channel)}
            for channel in dict.fromkeys([*self.spend, *self.exposure])
        }
        schema = Schema.check(
            {
                "store": self.single.get("store"),
                "date": self.single["date"],
                "target": self.single["target"],
                "channels": channels,
                "organic": self.lists["organic"],
                "mediators": self.lists["mediator"],
                "controls": self.lists["control"],
                "context": self.lists["context"],
                "revenue_per_target": self.single.get("revenue"),
                "population": self.single.get("population"),
            }
        )
        if schema.store is None:
            message = "No column names the store: the table is read as one national store."
            self.notices.append(Finding("notice", "one-store", message))
        return schema, self.notices

    @staticmethod
    def _pick(left: list[str], known: tuple[str, ...]) -> str | None:
        lower = {name.strip().lower(): name for name in reversed(left)}
        return next((lower[name] for name in known if name in lower), None)

    def _assign(self, name: str) -> None:
        for role, pattern, why in _RULES:
            match = pattern.fullmatch(name.strip())
            if match is None:
                continue
            if role != "calendar" and self._kind(name) == "text" and not self._numbers_in(name):
                self._note(name, "unused", "it holds text; encode it as 0/1 columns to use it")
            elif role in ("spend", "exposure"):
                self._channel(role, match.group("channel"), name, why)
            elif role in ("revenue", "population"):
                self._once(role, name, why)
            elif role == "calendar":
                self._note(name, "unused", why)
            elif role == "known":
                self.lists["control"].append({"name": name, "future_known": True})
                self._note(name, "control, future known", why)
            else:
                self.lists[role].append(name)
                self._note(name, role, why)
            return
        self.unknown.append(name)

    def _channel(self, role: str, channel: str, name: str, why: str) -> None:
        taken = self.spend if role == "spend" else self.exposure
        if channel in taken:
            self._note(name, "unused", f"'{taken[channel]}' already is the {role} of '{channel}'")
            return
        taken[channel] = name
        self._note(name, f"{role} of channel '{channel}'", why)

    def _once(self, role: str, name: str, why: str) -> None:
        if role in self.single:
            self._note(name, "unused", f"'{self.single[role]}' already is the {role}")
            return
        self.single[role] = name
        self._note(name, "revenue per target" if role == "revenue" else role, why)

    def _settle_unknown(self) -> None:
        """With no channel by name, the columns of numbers >= 0 that are left must be them."""
        guess_channels = not (self.spend or self.exposure or self.lists["organic"])
        for name in self.unknown:
            kind = self._kind(name)
            if kind in ("text", "date"):
                self._note(name, "unused", f"it holds {kind}s and its name says nothing")
            elif name.lower() in TARGET:
                self._note(name, "unused", f"'{self.single['target']}' already is the target")
            elif guess_channels and kind != "negative":
                self.spend[name] = name
                self._note(
                    name,
                    f"spend of channel '{name}'",
                    "no column is named as a channel",
                    doubtful=True,
                )
            else:
                self._note(name, "unused", "its name says nothing; give it a role to use it")

    def _kind(self, name: str) -> str:
        """What the values are: date, text, negative (numbers, some below 0) or number."""
        if self.source is None:
            return "number"
        series = self.source.column(name, _LOOKED_AT)
        if pd.api.types.is_datetime64_any_dtype(series.dtype):
            return "date"
        if isinstance(series.dtype, pd.CategoricalDtype):
            texts = pd.Series(series.cat.categories).astype("str")
            if pd.to_numeric(texts, errors="coerce").notna().any():
                return "number"
            dated = pd.to_datetime(texts, format="ISO8601", errors="coerce")
            return "date" if len(texts) and dated.notna().all() else "text"
        if pd.api.types.is_bool_dtype(series.dtype):
            return "number"
        return "negative" if bool((series < 0).any()) else "number"

    def _numbers_in(self, name: str) -> bool:
        """Whether a column of text holds amounts as people write them: $1,066.59 or 3,5 EUR.

        Such a column keeps its role, so that reading it says which values are no numbers.
        """
        assert self.source is not None
        texts = self.source.column(name, _LOOKED_AT).dropna().astype("str")
        return bool(len(texts)) and bool(texts.str.fullmatch(_AMOUNT).all())

    def _refuse_incomplete(self) -> None:
        findings = []
        for role, known in (("date", DATE), ("target", TARGET)):
            if role not in self.single:
                findings.append(
                    Finding(
                        "error",
                        f"no-{role}",
                        f"No column can be made out as the {role} among {first_few(self.names)}.",
                        f"Write a schema with '{role}: <column>'; known names are "
                        f"{first_few(known, 20)}.",
                    )
                )
        if not (self.spend or self.exposure or self.lists["organic"]):
            findings.append(
                Finding(
                    "error",
                    "no-channel",
                    f"No column can be made out as a channel among {first_few(self.names)}.",
                    "Write a schema with 'channels: {<name>: <spend column>}', or name the "
                    "columns <channel>_spend.",
                )
            )
        if findings:
            raise PanelError([*findings, *self.notices])

    def _note(self, name: str, role: str, why: str, doubtful: bool = False) -> None:
        code = "guessed-unused" if role == "unused" else "guessed-role"
        words = "is not used" if role == "unused" else f"is read as {role}"
        self.notices.append(
            Finding(
                "warning" if doubtful else "notice",
                code,
                f"Column '{name}' {words}: {why}.",
                "Write a schema that says what it is." if doubtful else "",
                column=name,
            )
        )
