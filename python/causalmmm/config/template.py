"""The commented configuration that ``causalmmm init`` prints for a table.

Only formats text; the guesses and their reasons come from ``causalmmm.data.guess``.
"""

from __future__ import annotations

import json
import re
from os import PathLike
from pathlib import Path
from typing import Any

import yaml

from causalmmm.data.guess_settings import Settings, guess_settings, guess_table
from causalmmm.data.readers import Readable
from causalmmm.data.schema import Schema
from causalmmm.data.table_file import TableFile
from causalmmm.findings import Finding

_WIDTH = 44


def template(data: Readable) -> str:
    """See ``Config.template``."""
    table, how = guess_table(data)
    schema, findings = Schema.guess(table)
    settings = guess_settings(table, schema, how)
    path = str(Path(data)) if isinstance(data, (str, PathLike)) else "data.csv"
    reasons = {finding.column: finding for finding in findings if finding.column is not None}
    lines = [
        "# Configuration of causalmmm. The roles of the columns are guesses: check each of them.",
        "",
        "schema:",
        *_schema_lines(schema, reasons),
        *_unused_lines(findings),
        "",
        "data:",
        f"  path: {_scalar(path)}",
        *_text_lines(settings),
        "  # Missing values, per role: error, zero, interpolate or carry. Each use is reported.",
        "  nan: {channels: error, organic: error, mediators: error, target: error,",
        *_carried_line(settings),
        "  # Steps without a row: error, zero, carry or leave-out (begin after the last gap).",
        "  gaps: error",
        *_business_line(settings),
        "",
        "# Parameters of CausalMMM by name; all others keep their defaults.",
        "model:",
        "  seed: 0",
        "",
    ]
    return "\n".join(lines)


def _schema_lines(schema: Schema, reasons: dict[str, Finding]) -> list[str]:
    lines = []
    if schema.store is None:
        lines.append("  # store: <column>      no column found: read as one national store")
    else:
        lines.append(_line("  store:", schema.store, reasons))
    lines += [_line("  date:", schema.date, reasons), _line("  target:", schema.target, reasons)]
    lines.append("  channels:" if schema.channels else "  channels: {}")
    for name, channel in schema.channels.items():
        lines.append(f"    {_scalar(name)}:")
        if channel.spend is not None:
            lines.append(_line("      spend:", channel.spend, reasons))
        if channel.exposure is not None:
            lines.append(_line("      exposure:", channel.exposure, reasons))
    for key, columns in (
        ("organic", schema.organic),
        ("mediators", schema.mediators),
        ("context", schema.context),
    ):
        if columns:
            lines.append(f"  {key}:")
            lines += [_line("    -", column, reasons) for column in columns]
    if schema.controls:
        lines.append("  controls:   # future_known: plans contain the future values")
    for control in schema.controls:
        item = yaml.safe_dump(
            control.model_dump(), default_flow_style=True, sort_keys=False, width=10_000
        )
        lines.append(_commented(f"    - {item.strip()}", reasons.get(control.name)))
    for key in ("revenue_per_target", "population"):
        column = getattr(schema, key)
        if column is not None:
            lines.append(_line(f"  {key}:", column, reasons))
    return lines


def _unused_lines(findings: list[Finding]) -> list[str]:
    unused = [finding for finding in findings if finding.code == "guessed-unused"]
    if not unused:
        return []
    return [
        "  # Columns without a role:",
        *(_commented(f"  #   {finding.column}", finding) for finding in unused),
    ]


def _text_lines(settings: Settings) -> list[str]:
    """How the file is written, where that is not the usual."""
    table, usual = settings.table, TableFile("")
    if not isinstance(table, TableFile):
        return []
    lines = []
    for name in ("encoding", "decimal", "thousands", "sheet"):
        value = getattr(table, name)
        if value != getattr(usual, name):
            text = f"  {name}: {value if name == 'encoding' else json.dumps(value)}"
            lines.append(_reasoned(text, settings.reasons.get(name)))
    return lines


def _carried_line(settings: Settings) -> list[str]:
    policy = "carry" if settings.carried else "error"
    text = f"        controls: {policy}, context: error}}"
    return [_reasoned(text, settings.reasons.get("carry"))]


def _business_line(settings: Settings) -> list[str]:
    if not settings.business_days:
        return []
    text = "  business_days: true"
    return [_reasoned(text, settings.reasons["business_days"])]


def _reasoned(text: str, reason: str | None) -> str:
    return text if reason is None else f"{text:<{_WIDTH}}  # {reason}"


def _line(key: str, column: str, reasons: dict[str, Finding]) -> str:
    return _commented(f"{key} {_scalar(column)}", reasons.get(column))


def _commented(text: str, finding: Finding | None) -> str:
    if finding is None:
        return text
    told = finding.message.removeprefix(f"Column '{finding.column}' ")
    told = told.removeprefix("is read as ").removeprefix("is not used: ")
    reason = re.sub(r"^[^:]*channel '.*?': |^[\w ,]+: ", "", told).rstrip(".")
    doubt = " (doubtful)" if finding.severity == "warning" else ""
    return f"{text:<{_WIDTH}}  # {reason}{doubt}"


def _scalar(value: Any) -> str:
    """A name in YAML, quoted only if it has to be."""
    text: str = yaml.safe_dump(str(value), width=10_000, allow_unicode=True)
    return text.splitlines()[0]
