"""Pages of recorded results: every CSV in ``bench/results`` as a table, with what measured it.

    python -m bench.pages.results    # writes docs/results/*.md; make docs runs it

The pages are no part of the repository: they cannot be out of date.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

RESULTS, PAGES = Path("bench/results"), Path("docs/results")
MAX_ROWS = 40  # of a table on a page; the file has all


def main() -> None:
    PAGES.mkdir(parents=True, exist_ok=True)
    for page_before in PAGES.glob("*.md"):
        page_before.unlink()
    results = sorted(RESULTS.glob("*.csv"))
    (PAGES / "index.md").write_text(index(results), encoding="utf-8")
    for path in results:
        (PAGES / f"{path.stem}.md").write_text(page(path), encoding="utf-8")


def page(path: Path) -> str:
    """One result file: what measured it, then its rows."""
    with path.open(newline="", encoding="utf-8") as file:
        header, *rows = list(csv.reader(file))
    shown = rows[:MAX_ROWS]
    lines = [f"# {path.stem}", "", *_origin(_header(path)), ""]
    lines += [_line(header), _line(["---"] * len(header)), *map(_line, shown)]
    if len(shown) < len(rows):
        lines += ["", f"The first {len(shown)} of {len(rows)} rows; all are in `{path}`."]
    return "\n".join(lines) + "\n"


def index(paths: Sequence[Path]) -> str:
    lines = [
        "# Results",
        "",
        "Written by `make results` from `bench/results`: what was measured, when and how.",
        "",
        _line(["file", "command", "date", "revision"]),
        _line(["---"] * 4),
    ]
    for path in paths:
        header = _header(path)
        command, date = f"`{header['command']}`", header["date"][:10]
        lines.append(_line([f"[{path.stem}]({path.stem}.md)", command, date, header["revision"]]))
    return "\n".join(lines) + "\n"


def _origin(header: dict[str, Any]) -> list[str]:
    """Of the latest run; rows that name a revision of their own were measured by that one."""
    machine, versions = header["machine"], header["versions"]
    processor = f"{machine['cpu']}, {machine['cores']} cores"
    device = f"{processor}, {machine['gpu']}" if machine.get("gpu") else processor
    known = [name for name in ("python", "torch", "onnxruntime") if name in versions]
    software = ", ".join(f"{name} {versions[name]}" for name in known)
    return [
        f"- command: `{header['command']}`",
        f"- machine: {device} ({machine['system']}); {software}",
        f"- date: {header['date'][:10]}, revision: {header['revision']}",
    ]


def _header(path: Path) -> dict[str, Any]:
    header: dict[str, Any] = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
    return header


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


if __name__ == "__main__":
    main()
