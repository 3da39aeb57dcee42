"""Calls of the command line in this process, for tests."""

from __future__ import annotations

import re
from typing import Any

from typer.testing import CliRunner

from causalmmm.cli import app


def call(*arguments: object) -> Any:
    return CliRunner().invoke(app, [str(a) for a in arguments])


def ok(*arguments: object) -> Any:
    done = call(*arguments)
    assert done.exit_code == 0, done.output
    return done


def refused(*arguments: object) -> str:
    done = call(*arguments)
    assert done.exit_code == 2, done.output
    assert done.exception is None or isinstance(done.exception, SystemExit)
    assert "Traceback" not in done.output
    # Boxes and line ends of usage errors are not part of what they say.
    return re.sub(r"[\s│]+", " ", done.stderr)
