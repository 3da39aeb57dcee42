"""The lock, the bill of materials and the licences of what an install takes."""

from __future__ import annotations

import re
import tomllib
from importlib import metadata
from pathlib import Path
from typing import Any

from bench.system.dependencies import COPYLEFT, bill_of_materials, licences, requirements
from packaging.requirements import Requirement

PROJECT = tomllib.loads((Path(__file__).parents[3] / "pyproject.toml").read_text())["project"]


def item(name: str, sha: str, **facts: Any) -> dict[str, Any]:
    archive = {"archive_info": {"hashes": {"sha256": sha}}} if sha else {"dir_info": {}}
    return {"metadata": {"name": name, "version": "1.0", **facts}, "download_info": archive}


def test_a_report_of_pip_becomes_a_lock_and_a_bill_of_materials() -> None:
    report = {
        "install": [
            item("PyYAML", "b" * 64, classifier=["License :: OSI Approved :: MIT License"]),
            item("a_b", "a" * 64, license_expression="BSD-3-Clause"),
            item("causalmmm", ""),
        ]
    }
    first = f"a-b==1.0 --hash=sha256:{'a' * 64}\n"
    assert requirements(report) == first + f"pyyaml==1.0 --hash=sha256:{'b' * 64}\n"
    bill = bill_of_materials(report)
    assert [part["purl"] for part in bill["components"]] == [
        "pkg:pypi/a-b@1.0",
        "pkg:pypi/pyyaml@1.0",
    ]
    assert bill["components"][1]["licenses"] == [{"license": {"name": "MIT License"}}]


def test_no_extra_needs_a_package_under_a_copyleft_licence() -> None:
    """Over all that is installed of what the extras need, and of what that needs in turn."""
    extras = PROJECT["optional-dependencies"].values()
    asked = [*PROJECT["dependencies"], *(text for extra in extras for text in extra)]
    seen: dict[str, dict[str, Any]] = {}
    waiting = [Requirement(text) for text in asked]
    while waiting:
        needed = waiting.pop()
        name = re.sub(r"[-_.]+", "-", needed.name).lower()
        if name in seen or name == "causalmmm" or (needed.marker and not needed.marker.evaluate()):
            continue
        try:
            seen[name] = metadata.metadata(name).json
        except metadata.PackageNotFoundError:
            continue
        waiting += map(Requirement, metadata.requires(name) or [])
    assert len(seen) > 40
    report = {"install": [{"metadata": facts, "download_info": {}} for facts in seen.values()]}
    said = licences(report)
    assert {name: licence for name, licence in said.items() if COPYLEFT.search(licence)} == {}
    assert all(COPYLEFT.search(text) for text in ("GPL-3.0-or-later", "LGPL-2.1", "AGPLv3"))
