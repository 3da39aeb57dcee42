"""The page of all commands and their options, from the commands themselves.

    python -m bench.pages.commands    # writes docs/cli.md; make docs runs it

The page is no part of the repository: it cannot be out of date.
"""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import typer.main

from causalmmm.cli import app

PAGE = Path("docs/cli.md")


def main() -> None:
    PAGE.write_text(page(), encoding="utf-8")


def page() -> str:
    """One section per command: what it does, arguments, options with their defaults."""
    group: Any = typer.main.get_command(app)
    sections = ["# Commands", "", "Written from `causalmmm COMMAND --help`.", ""]
    for name, command in group.commands.items():
        sections += [f"## causalmmm {name}", "", _text(command.help), ""]
        sections += ["| argument or option | default | what it is |", "|---|---|---|"]
        sections += [_row(parameter) for parameter in command.params if _named(parameter)]
        sections.append("")
    return "\n".join(sections)


def _text(text: str | None) -> str:
    """Help as Markdown: paragraphs whose lines are kept become blocks of code."""
    paragraphs = inspect.cleandoc(text or "").split("\n\n")
    return "\n\n".join(
        f"```console\n{part.removeprefix(chr(8)).strip()}\n```" if part.startswith("\b") else part
        for part in paragraphs
    )


def _row(parameter: Any) -> str:
    option = parameter.param_type_name == "option"
    names = ", ".join(f"`{name}`" for name in parameter.opts) if option else _named(parameter)
    default = parameter.default
    shown = "" if default in (None, False, (), []) or callable(default) else f"`{default}`"
    about = " ".join((getattr(parameter, "help", None) or "").split())
    return f"| {names} | {shown} | {about.replace('|', chr(92) + '|')} |"


def _named(parameter: Any) -> str:
    """How an argument is shown; empty for the option that every command has, --help."""
    if parameter.name == "help":
        return ""
    return f"`{parameter.name.upper()}`"


if __name__ == "__main__":
    main()
