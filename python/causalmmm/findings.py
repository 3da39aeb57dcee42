"""Findings about user input, the report that collects them, and the exceptions that carry it.

Every refusal of the package is made here, by ``refusal`` or from a list of findings. No check lives
here, and nothing here reads user data.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import pandas as pd

_MAX_COMPARED = 200  # characters of a name, and tens of names, among which ``closest`` looks

Severity = Literal["error", "warning", "notice"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "notice")


@dataclass(frozen=True)
class Finding:
    """One finding about the input: errors refuse it, warnings question it, notices record it.

    ``code`` is stable and meant for programs; ``message`` is a complete sentence that names
    column, store and date; ``remedy`` says what to change. ``date`` is ISO text, ``rows`` the
    number of rows affected. There is one finding per kind: ``store`` is the first of ``stores``,
    all that are affected (empty where the finding is about no store in particular).

    >>> Finding("warning", "outlier", "Sales of 900 on 2024-05-01.", "Check the day.").severity
    'warning'
    """

    severity: Severity
    code: str
    message: str
    remedy: str = ""
    column: str | None = None
    store: str | None = None
    date: str | None = None
    rows: int | None = None
    stores: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.store is not None and not self.stores:
            object.__setattr__(self, "stores", (self.store,))

    def __str__(self) -> str:
        text = f"{self.severity:<7}  {self.code}: {self.message}"
        return f"{text}\n         -> {self.remedy}" if self.remedy else text


@dataclass(frozen=True)
class Report:
    """All findings about one input, most severe first. ``str(report)`` is readable text.

    >>> report = Report.of([Finding("error", "no-date", "There is no date.", "Name a column.")])
    >>> len(report.errors), report.ok
    (1, False)
    """

    findings: tuple[Finding, ...] = field(default_factory=tuple)

    @classmethod
    def of(cls, findings: Iterable[Finding]) -> Report:
        """A report with errors first; findings of equal severity keep their order."""
        return cls(tuple(sorted(findings, key=lambda f: SEVERITIES.index(f.severity))))

    @property
    def errors(self) -> list[Finding]:
        return [f for f in self.findings if f.severity == "error"]

    @property
    def warnings(self) -> list[Finding]:
        return [f for f in self.findings if f.severity == "warning"]

    @property
    def notices(self) -> list[Finding]:
        return [f for f in self.findings if f.severity == "notice"]

    @property
    def ok(self) -> bool:
        """True when there are no errors; warnings and notices do not refuse the input."""
        return not self.errors

    @property
    def codes(self) -> set[str]:
        return {f.code for f in self.findings}

    def to_frame(self) -> pd.DataFrame:
        """One row per finding: severity, code, column, store, date, rows, message, remedy."""
        import pandas as pd

        names = ["severity", "code", "column", "store", "date", "rows", "message", "remedy"]
        rows = [[getattr(f, name) for name in names] for f in self.findings]
        return pd.DataFrame(rows, columns=names).astype({"rows": "Int64"})

    def raise_for_errors(self) -> None:
        """Raise ``PanelError`` with this report if it contains an error."""
        if not self.ok:
            raise PanelError(self)

    @property
    def summary(self) -> str:
        """One line of counts, e.g. ``2 errors, 1 warning``."""
        counts = [(s, sum(f.severity == s for f in self.findings)) for s in SEVERITIES]
        return ", ".join(counted(n, s) for s, n in counts if n) or "nothing found"

    def text(self, limit: int | None = None) -> str:
        """The summary and at most ``limit`` findings; the rest are counted."""
        shown = self.findings if limit is None else self.findings[:limit]
        lines = [self.summary, *map(str, shown)]
        if len(shown) < len(self.findings):
            lines.append(f"... and {len(self.findings) - len(shown)} more")
        return "\n".join(lines)

    def __str__(self) -> str:
        return self.text()

    def __iter__(self) -> Iterator[Finding]:
        return iter(self.findings)

    def __len__(self) -> int:
        return len(self.findings)


class RefusedInput(ValueError):
    """Input that cannot be used. ``.report`` holds all findings; the message lists them.

    >>> try:
    ...     raise RefusedInput([Finding("error", "no-date", "There is no date.", "Name a column.")])
    ... except ValueError as error:
    ...     print(error.report.findings[0].code)
    no-date
    """

    def __init__(self, report: Report | Sequence[Finding]) -> None:
        self.report = report if isinstance(report, Report) else Report.of(report)
        super().__init__(self.report.text(limit=40))


class PanelError(RefusedInput):
    """A panel or a plan that cannot be used.

    >>> try:
    ...     Panel.from_frame(pd.DataFrame({"day": ["2024-01-01"]}))
    ... except PanelError as error:
    ...     print([finding.code for finding in error.report.errors])
    ['no-target', 'no-channel']
    """


class ConfigError(RefusedInput):
    """A configuration file or an override that cannot be used.

    >>> try:
    ...     Config.parse("data: {path: [}")
    ... except ConfigError as error:
    ...     print(len(error.report.errors))
    1
    """


class ModelError(RefusedInput):
    """A model directory or an exported file that cannot be read or written.

    >>> try:
    ...     load("nowhere")
    ... except ModelError as error:
    ...     print(error.report.findings[0].code)
    no-such-model
    """


def refusal(
    code: str,
    message: str,
    remedy: str = "",
    *,
    kind: type[RefusedInput] = RefusedInput,
    column: str | None = None,
    store: str | None = None,
    date: str | None = None,
    rows: int | None = None,
) -> RefusedInput:
    """The exception for a single error, to be raised: ``raise refusal(code, message, remedy)``."""
    return kind([Finding("error", code, message, remedy, column, store, date, rows)])


def first_line(error: BaseException) -> str:
    """The first line of an exception's message, or its class where it has none."""
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__


def first_few(names: Iterable[object], limit: int = 8) -> str:
    """``'a', 'b' and 3 more``: names quoted for a message."""
    texts = (str(name) for name in names)
    quoted = [f"'{text[:_MAX_COMPARED]}'" for text in texts]
    if len(quoted) > limit:
        return f"{', '.join(quoted[:limit])} and {len(quoted) - limit} more"
    return ", ".join(quoted)


def counted(number: int, noun: str) -> str:
    """``1 row`` or ``3,000 rows``."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def rounded(value: float) -> str:
    """A number with four digits and without an exponent: 53,350 or 0.02417."""
    size = abs(value)
    whole = size == 0 or size >= 1000 or not math.isfinite(size)
    places = 0 if whole else min(8, max(0, 3 - math.floor(math.log10(size))))
    return f"{value:,.{places}f}"


def unknown_store(name: str, stores: Sequence[str]) -> str:
    """What to say of a store that the panel does not have: a similar one, and what there is."""
    return f"{closest(name, stores)}Stores of the panel: {first_few(stores)}."


def closest(name: str, candidates: Iterable[str]) -> str:
    """``Did you mean 'x'? `` if a candidate is similar, else an empty string."""
    import difflib

    if len(name) > _MAX_COMPARED:
        return ""
    short = (c for c in islice(candidates, 10 * _MAX_COMPARED) if len(c) <= _MAX_COMPARED)
    by_lower_case = {candidate.lower(): candidate for candidate in short}
    matches = difflib.get_close_matches(name.lower(), by_lower_case, n=1, cutoff=0.7)
    return f"Did you mean '{by_lower_case[matches[0]]}'? " if matches else ""
