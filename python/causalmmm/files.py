"""Files and directories that appear whole or not at all, and the check that an input file exists.

Knows nothing about contents and formats. A write goes to a temporary name in the same folder, is
flushed to disk and then renamed; permissions follow the umask, as for any new file.
"""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from causalmmm.findings import RefusedInput, refusal

_NAME_LENGTH = 40  # characters of the target's name in the temporary one; names end at 255 bytes


def require_file(path: Path, *, kind: type[RefusedInput] = RefusedInput) -> None:
    """Raise ``kind`` unless ``path`` is a file."""
    if not path.is_file():
        raise refusal(
            "no-such-file", f"File '{path}' does not exist.", "Check the path.", kind=kind
        )


def write_atomically(target: Path, content: bytes | str) -> None:
    """Write a whole file; text as UTF-8. Missing parent folders are created."""
    with atomic_file(target) as partial:
        partial.write_bytes(content.encode() if isinstance(content, str) else content)


@contextmanager
def atomic_file(target: Path, *, suffix: str = "") -> Iterator[Path]:
    """Yield an empty temporary file to fill; it becomes ``target`` unless the block raises.

    suffix  ends the temporary name, so that leftovers of a killed process can be recognised.

    An existing file is replaced. Symbolic links are followed; devices and pipes are written
    directly.
    """
    if target.exists() and not target.is_file():
        yield target
        return
    target = Path(os.path.realpath(target))
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = _temporary(target, suffix)
    os.close(os.open(partial, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
    try:
        yield partial
        _flush(partial)
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def atomic_directory(target: Path) -> Iterator[Path]:
    """Yield an empty temporary directory to fill; it becomes ``target`` unless the block raises.

    A directory that is there already is moved aside first, and removed once the new one is in
    place; whether it may be replaced is for the caller to check.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = _temporary(target)
    partial.mkdir()
    try:
        yield partial
        for path in partial.rglob("*"):
            if path.is_file():
                _flush(path)
        _swap_in(partial, target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _swap_in(directory: Path, target: Path) -> None:
    if not target.exists():
        directory.rename(target)
        return
    previous = _temporary(target, "-old")
    target.rename(previous)
    try:
        directory.rename(target)
    except OSError:
        previous.rename(target)
        raise
    shutil.rmtree(previous, ignore_errors=True)


def _temporary(target: Path, suffix: str = "") -> Path:
    """A hidden name beside ``target`` that nothing has yet."""
    return target.with_name(f".{target.name[:_NAME_LENGTH]}-{secrets.token_hex(6)}{suffix}")


def _flush(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())
