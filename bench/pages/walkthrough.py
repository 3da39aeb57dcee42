"""Runs the commands of pages as they are written, each page in an empty folder of its own.

    python -m bench.pages.walkthrough                     # README.md and docs/tutorial.md (minutes)
    python -m bench.pages.walkthrough docs/tutorial.md

Of a block ``console`` every line after ``$`` is run by bash in a terminal; what the page prints
below a command must be in the command's output, word for word and number for number within 5 %,
though perhaps with other words between (a page shows some columns only). Blocks ``python`` of a
page are run one after the other in one process. The first thing that fails or reads otherwise ends
the run with exit code 1.
"""

from __future__ import annotations

import argparse
import os
import pty
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

PAGES = (Path("README.md"), Path("docs/tutorial.md"))
_BLOCK = re.compile(r"^```(console|python)\n(.*?)^```$", re.M | re.S)
_CLOSE = 0.05  # share by which a number may differ: other processors and versions round otherwise
_SET_UP = "source "  # the environment of this process is used instead


class Step(NamedTuple):
    """A command, or a program in Python, and the lines that the page shows of its output."""

    language: str
    code: str
    shown: tuple[str, ...]


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Run the commands of pages as written.")
    parser.add_argument("pages", nargs="*", type=Path, default=list(PAGES))
    for page in parser.parse_args(arguments).pages:
        with tempfile.TemporaryDirectory() as folder:
            walk(page.read_text(encoding="utf-8"), Path(folder))


def walk(text: str, folder: Path) -> None:
    """Run all steps of a page in a folder; ``SystemExit`` where one fails or prints otherwise."""
    for step in steps(text):
        begin = time.perf_counter()
        output = run(step, folder)
        missing = [line for line in step.shown if not found(line, output)]
        if missing:
            raise SystemExit(f"$ {step.code}\nprinted\n{output}\nwithout\n" + "\n".join(missing))
        print(f"{time.perf_counter() - begin:6.1f} s  {step.code.splitlines()[0]}", flush=True)


def steps(text: str) -> Iterator[Step]:
    """Commands in the page's order; its programs in Python, joined, after them."""
    blocks = _BLOCK.findall(text)
    for code in (code for language, code in blocks if language == "console"):
        for part in re.split(r"^\$ ", code, flags=re.M)[1:]:
            command, *shown = part.splitlines()
            if not command.startswith(_SET_UP):
                yield Step("console", command, tuple(line for line in shown if line.strip()))
    program = "".join(code for language, code in blocks if language == "python")
    if program:
        yield Step("python", program, ())


def run(step: Step, folder: Path) -> str:
    """What a step prints in a terminal, on both streams."""
    command = ["bash", "-c", step.code]
    if step.language == "python":
        command = [sys.executable, "-P", "-c", step.code]
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    env = {**os.environ, "PATH": path, "COLUMNS": "200", "NO_COLOR": "1", "TERM": "dumb"}
    ours, theirs = pty.openpty()
    with subprocess.Popen(command, cwd=folder, env=env, stdout=theirs, stderr=theirs) as process:
        os.close(theirs)
        output = b"".join(_read(ours)).decode().replace("\r\n", "\n")
    os.close(ours)
    if process.returncode != 0:
        raise SystemExit(f"$ {step.code}\nended with {process.returncode}:\n{output}")
    return output


def _read(terminal: int) -> Iterator[bytes]:
    """What is written to a terminal until its last writer has ended, which Linux calls EIO."""
    try:
        while chunk := os.read(terminal, 65536):
            yield chunk
    except OSError:
        return


def found(line: str, output: str) -> bool:
    """Whether a line of the output has the words of ``line`` in their order."""
    words = line.split()
    return any(_in_order(words, iter(other.split())) for other in output.splitlines())


def _in_order(words: Sequence[str], others: Iterator[str]) -> bool:
    return all(any(_same(word, other) for other in others) for word in words)


def _same(word: str, other: str) -> bool:
    if word == other:
        return True
    try:
        wanted, got = (float(text.strip("(),").replace(",", "")) for text in (word, other))
    except ValueError:
        return False
    return abs(got - wanted) <= _CLOSE * abs(wanted)


if __name__ == "__main__":
    main()
