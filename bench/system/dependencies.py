"""What an install takes: requirements with hashes, and a bill of materials with licences.

    make lock    # pip resolves, this writes build/lock/requirements.txt and sbom.cdx.json

Both come from pip's own report of an install that is only planned, so they hold for the platform,
the interpreter and the index that were asked, and for nothing else.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from pathlib import Path
from typing import Any

Report = dict[str, Any]
# Licences of which a package may not be part of an extra; LGPL is one of them.
COPYLEFT = re.compile(r"\bA?L?GPL|General Public License", re.IGNORECASE)


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("report", type=Path, help="of pip install --dry-run --report")
    options.add_argument("--out", type=Path, default=Path("build/lock"))
    asked = options.parse_args()
    report = json.loads(asked.report.read_text(encoding="utf-8"))
    asked.out.mkdir(parents=True, exist_ok=True)
    (asked.out / "requirements.txt").write_text(requirements(report), encoding="utf-8")
    text = json.dumps(bill_of_materials(report), indent=2) + "\n"
    (asked.out / "sbom.cdx.json").write_text(text, encoding="utf-8")
    wrong = [name for name, licence in licences(report).items() if COPYLEFT.search(licence)]
    for name in wrong:
        print(f"{name} is under a copyleft licence: no extra may need it", file=sys.stderr)
    return int(bool(wrong))


def requirements(report: Report) -> str:
    """A line ``name==version --hash=sha256:...`` for every file that pip would take."""
    lines = [
        f"{_name(item)}=={item['metadata']['version']} --hash=sha256:{_sha256(item)}"
        for item in report["install"]
        if _sha256(item)
    ]
    return "\n".join(sorted(lines)) + "\n"


def bill_of_materials(report: Report) -> dict[str, Any]:
    """The same files as CycloneDX 1.6 (https://cyclonedx.org/docs/1.6/json/)."""
    components = [
        {
            "type": "library",
            "name": _name(item),
            "version": item["metadata"]["version"],
            "purl": f"pkg:pypi/{_name(item)}@{item['metadata']['version']}",
            "licenses": [{"license": {"name": _licence(item["metadata"]) or "unknown"}}],
            "hashes": [{"alg": "SHA-256", "content": _sha256(item)}],
        }
        for item in report["install"]
        if _sha256(item)
    ]
    by_name = sorted(components, key=lambda component: str(component["name"]))
    return {"bomFormat": "CycloneDX", "specVersion": "1.6", "version": 1, "components": by_name}


def licences(report: Report) -> dict[str, str]:
    """What the metadata of every package says about its licence."""
    return {_name(item): _licence(item["metadata"]) for item in report["install"]}


def _licence(metadata: dict[str, Any]) -> str:
    """The expression, else the classifiers, else the first line of the text of the licence."""
    classified = [
        text.split(" :: ")[-1]
        for text in metadata.get("classifier", [])
        if text.startswith("License ::")
    ]
    text = (metadata.get("license") or "").strip().split("\n")[0]
    return metadata.get("license_expression") or ", ".join(classified) or text


def _name(item: dict[str, Any]) -> str:
    return re.sub(r"[-_.]+", "-", item["metadata"]["name"]).lower()


def _sha256(item: dict[str, Any]) -> str:
    """Empty for a source tree, such as this project's own."""
    archive = item["download_info"].get("archive_info", {})
    return str(archive.get("hashes", {}).get("sha256", ""))


if __name__ == "__main__":
    sys.exit(main())
