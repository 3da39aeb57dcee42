"""Pages that commands write say what the files say; the tutorial's commands exist as written."""

from __future__ import annotations

import csv
import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer.main
from bench.pages import commands, results, walkthrough

from causalmmm.cli import app

ROOT = Path(__file__).parents[2]
GROUP: Any = typer.main.get_command(app)
TUTORIAL = re.findall(r"^\$ causalmmm (.*)$", (ROOT / "docs/tutorial.md").read_text("utf-8"), re.M)


@pytest.mark.parametrize("line", TUTORIAL)
def test_commands_of_the_tutorial_have_these_arguments_and_options(line: str) -> None:
    name, *words = shlex.split(line)
    context = GROUP.commands[name].make_context(name, words, resilient_parsing=True)
    given = [word for word in words if word.startswith("-")]
    known = {option for parameter in context.command.params for option in parameter.opts}
    assert set(given) <= known


def test_a_page_of_results_names_command_machine_and_revision(tmp_path: Path) -> None:
    path = tmp_path / "times.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([["what", "seconds"], *(["a|b", k] for k in range(50))])
    header = {
        "command": "python -m bench.times",
        "date": "2026-01-02T03:04:05+00:00",
        "revision": "abc1234",
        "machine": {"system": "Linux", "cpu": "Z80", "cores": 1, "gpu": None},
        "versions": {"python": "3.11"},
    }
    path.with_suffix(".json").write_text(json.dumps(header), encoding="utf-8")
    text = results.page(path)
    for part in (
        "python -m bench.times",
        "Z80, 1 cores",
        "2026-01-02",
        "abc1234",
        "| a\\|b | 39 |",
    ):
        assert part in text
    assert "| 40 |" not in text
    assert "The first 40 of 50 rows" in text
    assert "[times](times.md)" in results.index([path])


def test_the_page_of_commands_has_every_command_and_option() -> None:
    text = commands.page()
    for name, command in GROUP.commands.items():
        assert f"## causalmmm {name}\n" in text
        for parameter in command.params:
            if parameter.name != "help" and parameter.param_type_name == "option":
                assert f"`{parameter.opts[0]}`" in text
    assert "\b" not in text


def test_a_page_is_walked_as_written_and_its_output_compared(tmp_path: Path) -> None:
    page = (
        "```console\n$ source .venv/bin/activate\n$ echo a b c > made   # a comment\n"
        "$ cat made\na c\n```\n\n```python\nopen('more', 'w').write(open('made').read())\n```\n"
    )
    walkthrough.walk(page, tmp_path)
    assert (tmp_path / "more").read_text() == "a b c\n"
    page = page.replace("echo a b c", "echo a 99,900 c").replace("\na c\n", "\na 1e5 c\n")
    walkthrough.walk(page, tmp_path)  # numbers are the same within 5 %
    with pytest.raises(SystemExit, match=r"without\na 1\.1e5"):
        walkthrough.walk(page.replace("1e5", "1.1e5"), tmp_path)
    with pytest.raises(SystemExit, match="without\nc a"):
        walkthrough.walk(page.replace("\na 1e5 c\n", "\nc a\n"), tmp_path)
    with pytest.raises(SystemExit, match="ended with 3"):
        walkthrough.walk("```console\n$ exit 3\n```\n", tmp_path)


def test_pages_that_are_walked_have_commands() -> None:
    for path in walkthrough.PAGES:
        written = [*walkthrough.steps((ROOT / path).read_text("utf-8"))]
        assert sum(step.code.startswith("causalmmm ") for step in written) >= 7
