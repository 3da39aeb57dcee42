"""Results as files: a CSV of rows, and a JSON of where, when and how they were measured."""

from __future__ import annotations

import csv
import json
import os
import platform
import subprocess
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

Row = dict[str, Any]
_PACKAGES = (
    *("causalmmm", "torch", "triton", "onnx", "onnxruntime"),
    *("numpy", "pandas", "scipy", "scikit-learn"),
)


def record(out: Path, name: str, rows: Sequence[Row], settings: Mapping[str, Any]) -> None:
    """Write ``name.csv`` and ``name.json`` into ``out`` (created when missing)."""
    out.mkdir(parents=True, exist_ok=True)
    columns = list(dict.fromkeys(key for row in rows for key in row))
    with (out / f"{name}.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows({k: _short(v) for k, v in row.items()} for row in rows)
    kept = {name: value for name, value in settings.items() if name != "out"}
    header = {**environment(), "settings": kept, "rows": len(rows)}
    (out / f"{name}.json").write_text(json.dumps(header, indent=2, default=str) + "\n", "utf-8")


def environment() -> dict[str, Any]:
    """Machine, command, date, revision and versions of this run."""
    return {
        "command": " ".join(["python", *_program(), *sys.argv[1:]]),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "revision": _revision(),
        "machine": {
            "system": f"{platform.system()} {platform.machine()}",
            "cpu": _cpu(),
            "cores": os.cpu_count(),
            "threads": os.environ.get("OMP_NUM_THREADS"),
            "gpu": _gpu(),
        },
        "versions": {"python": platform.python_version(), **_versions()},
    }


def table(
    rows: Sequence[Row], by: Sequence[str], values: Sequence[str], title: str | None = None
) -> str:
    """Rows as text: one line per combination of ``by``, means of ``values`` (and their spread over
    repetitions where there are several)."""
    groups: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        groups.setdefault(tuple(row.get(key) for key in by), []).append(row)
    lines = [[*by, *values]]
    for key, members in groups.items():
        lines.append([*map(str, key), *(_cell([m.get(v) for m in members]) for v in values)])
    widths = [max(len(line[k]) for line in lines) for k in range(len(lines[0]))]
    body = ["  ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)) for line in lines]
    body.insert(1, "  ".join("-" * w for w in widths))
    return "\n".join(([title] if title else []) + [line.rstrip() for line in body])


def _cell(values: Sequence[Any]) -> str:
    numbers = np.array([v for v in values if v is not None], dtype=float)
    numbers = numbers[np.isfinite(numbers)]
    if not len(numbers):
        return "-"
    spread = f" ± {numbers.std(ddof=1):.3f}" if len(numbers) > 1 else ""
    return f"{numbers.mean():.4g}{spread}"


def _short(value: Any) -> Any:
    return f"{value:.6g}" if isinstance(value, float | np.floating) else value


def _program() -> list[str]:
    """What was run: a module by its name, a script by its path."""
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    return [os.path.relpath(sys.argv[0])] if spec is None else ["-m", spec.name]


def _revision() -> str:
    def git(*arguments: str) -> str:
        done = subprocess.run(["git", *arguments], capture_output=True, text=True, check=False)
        return done.stdout.strip()

    revision = git("rev-parse", "--short", "HEAD") or "unknown"
    changed = git("status", "--porcelain", "--untracked-files=no")
    return revision + (" with uncommitted changes" if changed else "")


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or "unknown"
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or "unknown"


def _gpu() -> str | None:
    try:
        import torch
    except ImportError:
        return None
    return torch.cuda.get_device_name() if torch.cuda.is_available() else None


def _versions() -> dict[str, str]:
    versions = {}
    for package in _PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return versions
