"""The commented configuration that ``causalmmm init`` prints for a table.

Only writes text; the guesses and their reasons come from ``causalmmm.data.guess``.
"""

from __future__ import annotations

from os import PathLike
from pathlib import Path
from typing import Any

import yaml

from causalmmm.data.readers import Readable
from causalmmm.data.schema import Schema
from causalmmm.findings import Finding

_WIDTH = 44


def template(data: Readable) -> str:
    """See ``Config.template``."""
    schema, notices = Schema.guess(data)
    path = str(Path(data)) if isinstance(data, (str, PathLike)) else "data.csv"
    said = {found.column: found for found in notices if found.column is not None}
    lines = [
        "# Configuration of causalmmm. The roles of the columns were guessed; check each of them.",
        "",
        "schema:",
        *_schema_lines(schema, said),
        *_unused_lines(notices),
        "",
        "data:",
        f"  path: {_scalar(path)}",
        "  # What to do with missing values: error, zero or interpolate. Each use is reported.",
        "  nan: {channels: error, organic: error, mediators: error, target: error,",
        "        controls: error, context: error}",
        "",
        "# Parameters of CausalMMM by name; those left out keep their defaults.",
        "model:",
        "  seed: 0",
        "",
    ]
    return "\n".join(lines)


def _schema_lines(schema: Schema, said: dict[str, Finding]) -> list[str]:
    lines = []
    if schema.store is None:
        lines.append("  # store: <column>      no column names one: read as one national store")
    else:
        lines.append(_line("  store:", schema.store, said))
    lines += [_line("  date:", schema.date, said), _line("  target:", schema.target, said)]
    lines.append("  channels:" if schema.channels else "  channels: {}")
    for name, channel in schema.channels.items():
        lines.append(f"    {_scalar(name)}:")
        if channel.spend is not None:
            lines.append(_line("      spend:", channel.spend, said))
        if channel.exposure is not None:
            lines.append(_line("      exposure:", channel.exposure, said))
    for key, columns in (
        ("organic", schema.organic),
        ("mediators", schema.mediators),
        ("context", schema.context),
    ):
        if columns:
            lines.append(f"  {key}:")
            lines += [_line("    -", column, said) for column in columns]
    if schema.controls:
        lines.append("  controls:   # future_known: a plan gives the future values")
    for control in schema.controls:
        item = yaml.safe_dump(
            control.model_dump(), default_flow_style=True, sort_keys=False, width=10_000
        )
        lines.append(_commented(f"    - {item.strip()}", said.get(control.name)))
    for key in ("revenue_per_target", "population"):
        column = getattr(schema, key)
        if column is not None:
            lines.append(_line(f"  {key}:", column, said))
    return lines


def _unused_lines(notices: list[Finding]) -> list[str]:
    unused = [found for found in notices if found.code == "guessed-unused"]
    if not unused:
        return []
    return [
        "  # Columns without a role:",
        *(_commented(f"  #   {found.column}", found) for found in unused),
    ]


def _line(key: str, column: str, said: dict[str, Finding]) -> str:
    return _commented(f"{key} {_scalar(column)}", said.get(column))


def _commented(text: str, found: Finding | None) -> str:
    if found is None:
        return text
    reason = found.message.split(": ", 1)[-1].rstrip(".")
    doubt = " (doubtful)" if found.severity == "warning" else ""
    return f"{text:<{_WIDTH}}  # {reason}{doubt}"


def _scalar(value: Any) -> str:
    """A name as YAML reads it back, quoted only where it must be."""
    text: str = yaml.safe_dump(str(value), width=10_000, allow_unicode=True)
    return text.splitlines()[0]
