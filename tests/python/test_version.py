"""One version: that of pyproject.toml, which the newest entry of the changelog is about."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_newest_entry_of_the_changelog_is_this_version() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    newest = re.search(r"^## (.*)$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert newest is not None
    entry = re.fullmatch(r"(\S+) \((?:not released|\d{4}-\d\d-\d\d)\)", newest[1])
    assert entry is not None, newest[1]
    assert entry[1] == version
