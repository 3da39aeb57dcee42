"""What validation has to say: findings, the report that collects them, the errors that carry it.

No check lives here, and nothing here reads user data.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import pandas as pd

Severity = Literal["error", "warning", "notice"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "notice")


@dataclass(frozen=True)
class Finding:
    """One thing found in the input: an error refuses it, a warning doubts it, a notice records it.

    ``code`` is stable, for programs; ``message`` is a sentence that names column, store and date
    by itself; ``remedy`` says what to change. ``date`` is ISO text, ``rows`` the rows concerned.
    """

    severity: Severity
    code: str
    message: str
    remedy: str = ""
    column: str | None = None
    store: str | None = None
    date: str | None = None
    rows: int | None = None

    def __str__(self) -> str:
        text = f"{self.severity:<7}  {self.code}: {self.message}"
        return f"{text}\n         -> {self.remedy}" if self.remedy else text


@dataclass(frozen=True)
class Report:
    """Everything found in one input, worst first. ``str(report)`` reads as it is."""

    findings: tuple[Finding, ...] = field(default_factory=tuple)

    @classmethod
    def of(cls, findings: Iterable[Finding]) -> Report:
        """A report of the findings, errors first, otherwise in the order given."""
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
        """True when there is no error; warnings and notices do not refuse the input."""
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
        """Raise ``PanelError`` with this report when it holds an error."""
        if not self.ok:
            raise PanelError(self)

    @property
    def summary(self) -> str:
        """One line of counts, e.g. ``2 errors, 1 warning``."""
        counts = [(s, sum(f.severity == s for f in self.findings)) for s in SEVERITIES]
        said = [counted(n, s) for s, n in counts if n]
        return ", ".join(said) or "nothing found"

    def text(self, limit: int | None = None) -> str:
        """The summary and the findings, at most ``limit`` of them, the rest as a count."""
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
    """Input that cannot be used. ``.report`` holds every finding; the text lists them."""

    def __init__(self, report: Report | Sequence[Finding]) -> None:
        self.report = report if isinstance(report, Report) else Report.of(report)
        super().__init__(self.report.text(limit=40))


class PanelError(RefusedInput):
    """A panel or a plan that cannot be used."""


class ConfigError(RefusedInput):
    """A configuration file or an override that cannot be used."""


class ModelError(RefusedInput):
    """A model directory or an exported file that cannot be read or written."""


def first_few(names: Iterable[object], limit: int = 8) -> str:
    """``'a', 'b' and 3 more``: names quoted for a message."""
    listed = [f"'{name}'" for name in names]
    if len(listed) > limit:
        return f"{', '.join(listed[:limit])} and {len(listed) - limit} more"
    return ", ".join(listed)


def counted(number: int, noun: str) -> str:
    """``1 row`` or ``3 rows``."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def closest(name: str, known: Iterable[str]) -> str:
    """``Did you mean 'x'? `` when a known name is near, else nothing."""
    import difflib

    lower = {k.lower(): k for k in known}
    near = difflib.get_close_matches(name.lower(), lower, n=1, cutoff=0.7)
    return f"Did you mean '{lower[near[0]]}'? " if near else ""
