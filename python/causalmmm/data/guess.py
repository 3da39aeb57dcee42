"""Guessing the roles of a table's columns from the names that common tools give them.

Every guess is recorded with its reason; a ``Schema``, which is built elsewhere, overrides them all.
Values are only looked at where the name is not conclusive.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, cast

import pandas as pd

from causalmmm.data.flags import is_flag
from causalmmm.data.names import is_reserved
from causalmmm.data.readers import Readable, open_source
from causalmmm.data.sources import Source
from causalmmm.findings import Finding, PanelError, first_few

# Names in order of preference, case-insensitive.
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
    *("filiale", "markt", "laden", "magasin", "région"),
)
DATE = (
    *("date", "ds", "time", "week", "date_week", "wk_strt_dt", "day", "month", "timestamp"),
    *("datum", "woche", "tag", "monat", "semaine", "jour", "mois"),
)
TARGET = (
    *("target", "y", "gmv", "sales", "revenue", "kpi", "conversions", "orders"),
    *("net sales", "total sales", "gross sales", "sales amount", "net revenue", "total revenue"),
    *("turnover", "umsatz", "nettoumsatz", "absatz", "ventes", "chiffre d'affaires"),
)
_UNIT = re.compile(
    r"(?i)[\s_]*(\([^()]*\)|\[[^\[\]]*\]|€|\$|£|\b(?:eur|usd|gbp|chf)|_(?:eur|usd|gbp))$"
)

_AMOUNT = r"\s*[^\d\s]{0,4}\s*\d[\d.,' ]*\s*[^\d\s]{0,4}\s*"
_SAMPLED_ROWS = 10_000  # of a column whose name is not conclusive

# (role, pattern, reason); the first match decides. The group "channel" is the channel's name.
_RULES: tuple[tuple[str, re.Pattern[str], str], ...] = tuple(
    (role, re.compile(pattern), reason)
    for role, pattern, reason in (
        ("revenue", r"(?i)revenue_per_\w+", "named like money per unit of target"),
        ("population", r"(?i)population", "named like the size of a store"),
        (
            "calendar",
            r"(?i)t|trend|day_?of_?(year|week|month)|week_?of_?year|weekday|quarter|year"
            r"|month|week|day",
            "a calendar counter; the model has its own calendar",
        ),
        ("context", r"(?i)context(_?\w+)?|\w+_context", "named like context"),
        (
            "known",
            r"(?i)(is_)?(holiday|weekend)\w*|event_?\w*|promo(tion)?\w*",
            "named like a calendar event, whose future is known",
        ),
        (
            "control",
            r"(?i)\w+_controls?|c\d+|control_?\w*|competitor\w*|price|temperature|weather\w*"
            r"|.*_?inde?x|gdp\w*|cpi|inflation\w*|unemployment\w*|lockdowns?|covid\w*|closures?",
            "named like a control",
        ),
        ("control", r"\w+_B", "ends in _B, a baseline variable in Robyn"),
        ("organic", r"(?i)organic\w*|\w+_organic|newsletter\w*", "named like an organic channel"),
        (
            "organic",
            r"(?i).*(engagements?|opens|likes|followers|shares|mentions)",
            "named like attention that nobody paid for",
        ),
        ("organic", r"\w+_O", "ends in _O, an organic variable in Robyn"),
        (
            "mediator",
            r"(?i)[pu]v|page_?views?|visits|sessions|\w+_mediator|brand(ed)?_search(es)?",
            "named like a step between channels and target",
        ),
        ("spend", r"(?i)(?P<channel>.+)[_ .-](spend|cost)s?", "named like spend"),
        ("spend", r"(?i)(spend|cost)[_ .-](?P<channel>.+)", "named like spend"),
        (
            "spend",
            r"(?i)(?P<channel>.+)[_ .-](kosten|ausgaben|werbung|budget|dépenses?|depenses?|coûts?)",
            "named like spend",
        ),
        ("spend", r"(?i)(?P<channel>.+[_ .-]ads)", "named like a channel, so taken as its spend"),
        ("spend", r"(?P<channel>.+)_S", "ends in _S, spend in Robyn"),
        ("exposure", r"(?P<channel>.+?)(_clicks?)?_[IP]", "ends in _I or _P, exposure in Robyn"),
        (
            "exposure",
            r"(?i)(?P<channel>.+)[_ .-](exposure|impression|click|view|grp)s?",
            "named like exposure",
        ),
        ("spend", r"(?i)(?P<channel>x_?\d+)", "named like a channel in AirMMM or PyMC-Marketing"),
        (
            "spend",
            r"(?i)(?P<channel>(tv|radio|print|ooh|search|social|display|facebook|fb|meta|google"
            r"|bing|tiktok|youtube|video|feed|email|affiliates?|influencers?|banner|instagram"
            r"|newspapers?|magazines?|billboards?|cinema|podcasts?|media|amazon|criteo|linkedin"
            r"|snapchat|pinterest|reddit|twitter|spotify|programmatic|taboola|outbrain|kino"
            r"|fernsehen|plakat|télé)([_ .-]?\w+)*)",
            "named like a channel, so taken as its spend",
        ),
    )
)


def is_key(name: str) -> bool:
    """Whether a column of this name would be taken as store or date."""
    return _bare(name).lower() in {*STORE, *DATE}


def _bare(name: str) -> str:
    """A header without spaces around it and the unit at its end: ``Net Sales [EUR]``."""
    return _UNIT.sub("", name.strip()).strip() or name.strip()


@dataclass(frozen=True)
class Guess:
    """The guessed roles, as ``Schema.check`` takes them, and one finding per column."""

    roles: dict[str, Any]
    findings: list[Finding]


def guess_roles(data: Readable | Iterable[str]) -> Guess:
    """Guess the roles of a table, of a file, or of mere column names.

    Raises ``PanelError`` if there is no date, target or channel among them.
    """
    if isinstance(data, (list, tuple, pd.Index)):
        return _Guesser([str(name) for name in data], None).guess()
    source = open_source(cast("Readable", data), is_key)
    return _Guesser(source.names, source).guess()


@dataclass
class _Guesser:
    """Goes through the columns once, collecting roles and findings."""

    names: list[str]
    source: Source | None
    findings: list[Finding] = field(default_factory=list)
    spend: dict[str, str] = field(default_factory=dict)
    exposure: dict[str, str] = field(default_factory=dict)
    lists: dict[str, list[Any]] = field(
        default_factory=lambda: {"organic": [], "mediator": [], "control": [], "context": []}
    )
    single: dict[str, str] = field(default_factory=dict)
    unknown: list[str] = field(default_factory=list)

    def guess(self) -> Guess:
        remaining = list(self.names)
        for role, usual_names in (("store", STORE), ("date", DATE), ("target", TARGET)):
            column = self._pick(remaining, usual_names)
            if column is None and role == "date":
                column = next((name for name in remaining if self._kind(name) == "date"), None)
            if column is not None:
                remaining.remove(column)
                self.single[role] = column
                self._record(column, role, "a usual name for it")
        for name in remaining:
            self._assign(name)
        self._assign_unknown()
        self._require_essentials()
        channels = {
            channel: {"spend": self.spend.get(channel), "exposure": self.exposure.get(channel)}
            for channel in dict.fromkeys([*self.spend, *self.exposure])
        }
        roles = {
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
        if "store" not in self.single:
            message = "No column is named like a store: the table is read as one national store."
            self.findings.append(Finding("notice", "one-store", message))
        return Guess(roles, self.findings)

    @staticmethod
    def _pick(columns: list[str], usual_names: tuple[str, ...]) -> str | None:
        by_lower_case = {_bare(name).lower(): name for name in reversed(columns)}
        matches = (by_lower_case[name] for name in usual_names if name in by_lower_case)
        return next(matches, None)

    def _assign(self, name: str) -> None:
        for role, pattern, reason in _RULES:
            match = pattern.fullmatch(_bare(name))
            if match is None:
                continue
            if role != "calendar" and self._kind(name) == "text" and not self._holds_amounts(name):
                self._record(name, "unused", "it contains text; encode it as 0/1 columns to use it")
            elif role in ("spend", "exposure"):
                self._assign_channel(role, match.group("channel"), name, reason)
            elif role in ("revenue", "population"):
                self._assign_single(role, name, reason)
            elif role == "calendar":
                self._record(name, "unused", reason)
            elif role == "known":
                self.lists["control"].append({"name": name, "future_known": True})
                self._record(name, "control, future known", reason)
            else:
                self.lists[role].append(name)
                self._record(name, role, reason)
            return
        self.unknown.append(name)

    def _assign_channel(self, role: str, channel: str, name: str, reason: str) -> None:
        channel = channel.strip(" :;,_-") or name
        if is_reserved(channel):
            channel = name
        taken = self.spend if role == "spend" else self.exposure
        if channel in taken:
            self._record(name, "unused", f"'{taken[channel]}' is already the {role} of '{channel}'")
            return
        taken[channel] = name
        self._record(name, f"{role} of channel '{channel}'", reason)

    def _assign_single(self, role: str, name: str, reason: str) -> None:
        if role in self.single:
            self._record(name, "unused", f"'{self.single[role]}' is already the {role}")
            return
        self.single[role] = name
        self._record(name, "revenue per target" if role == "revenue" else role, reason)

    def _assign_unknown(self) -> None:
        """If no column is named like a channel, take the remaining columns of numbers >= 0."""
        guess_channels = not (self.spend or self.exposure or self.lists["organic"])
        for name in self.unknown:
            kind = self._kind(name)
            if kind in ("text", "date"):
                self._record(name, "unused", f"it contains {kind}s and its name is not conclusive")
            elif _bare(name).lower() in TARGET and "target" in self.single:
                self._record(name, "unused", f"'{self.single['target']}' is already the target")
            elif kind == "flag":
                self.lists["control"].append(name)
                self._record(name, "control", "it holds only 0 and 1")
            elif guess_channels and kind != "negative":
                self.spend[name] = name
                self._record(
                    name,
                    f"spend of channel '{name}'",
                    "no column is named like a channel",
                    doubtful=True,
                )
            else:
                reason = "its name is not conclusive; give it a role to use it"
                self._record(name, "unused", reason, doubtful=True)

    def _kind(self, name: str) -> str:
        """Kind of the values: date, text, flag (0 and 1), negative (some below 0) or number."""
        if self.source is None:
            return "number"
        series = self.source.column(name, _SAMPLED_ROWS)
        if pd.api.types.is_datetime64_any_dtype(series.dtype):
            return "date"
        if isinstance(series.dtype, pd.CategoricalDtype):
            texts = pd.Series(series.cat.categories).astype("str")
            if pd.to_numeric(texts, errors="coerce").notna().any():
                return "number"
            dated = pd.to_datetime(texts, format="ISO8601", errors="coerce")
            return "date" if len(texts) and dated.notna().all() else "text"
        if is_flag(self.source, name):
            return "flag"
        return "negative" if bool((series < 0).any()) else "number"

    def _holds_amounts(self, name: str) -> bool:
        """Whether a text column contains amounts such as $1,066.59 or 3,5 EUR.

        It keeps its role, so that validation can say which values are not numbers.
        """
        assert self.source is not None
        texts = self.source.column(name, _SAMPLED_ROWS).dropna().astype("str")
        return bool(len(texts)) and bool(texts.str.fullmatch(_AMOUNT).all())

    def _require_essentials(self) -> None:
        findings = []
        for role, usual_names in (("date", DATE), ("target", TARGET)):
            if role not in self.single:
                findings.append(
                    Finding(
                        "error",
                        f"no-{role}",
                        f"No column is recognisable as the {role} among {first_few(self.names)}.",
                        f"Write a schema with '{role}: <column>'; recognised names are "
                        f"{first_few(usual_names, 20)}.",
                    )
                )
        if not (self.spend or self.exposure or self.lists["organic"]):
            findings.append(
                Finding(
                    "error",
                    "no-channel",
                    f"No column is recognisable as a channel among {first_few(self.names)}.",
                    "Write a schema with 'channels: {<name>: <spend column>}', or name the "
                    "columns <channel>_spend.",
                )
            )
        if findings:
            raise PanelError([*findings, *self.findings])

    def _record(self, name: str, role: str, reason: str, *, doubtful: bool = False) -> None:
        code = "guessed-unused" if role == "unused" else "guessed-role"
        words = "is not used" if role == "unused" else f"is read as {role}"
        self.findings.append(
            Finding(
                "warning" if doubtful else "notice",
                code,
                f"Column '{name}' {words}: {reason}.",
                "Write a schema that gives its role." if doubtful else "",
                column=name,
            )
        )
