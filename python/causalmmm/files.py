"""Files and directories that appear whole or not at all, and checks of places before work begins.

Knows nothing about contents and formats. A write goes to a temporary name in the same folder, is
flushed to disk and then renamed; permissions follow the umask, as for any new file. A process XX
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from causalmmm.findings import RefusedInput, refusal

PARTIAL = ".causalmmm-partial"  # ends every temporary name
_NAME_LENGTH = 40  # characters of the target's name in the temporary one; names end at 255 bytes
_AT_FDCWD, _RENAME_EXCHANGE = -100, 2  # linux/fcntl.h, linux/fs.h


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


def check_writable(
    target: Path, *, size: int = 20_000_000, kind: type[RefusedInput] = RefusedInput
) -> None:
    """Raise ``kind`` unless ``size`` bytes can be written at ``target`` or below it.

    Tried by writing them in the closest folder that exists: permissions, read-only disks, full
    disks and quotas all tell.
    """
    above = next(p for p in target.absolute().parents if os.path.lexists(p))
    message, remedy = f"Nothing can be written below '{above}'", "Choose a folder that is yours."
    if not above.is_dir():
        raise refusal("place-taken", f"{message}: it is no folder.", remedy, kind=kind)
    try:
        with _temporary(above / "probe") as probe:
            file = os.open(probe, os.O_WRONLY)
            try:
                os.posix_fallocate(file, 0, size)
            finally:
                os.close(file)
    except OSError as error:
        raise refusal(
            "place-taken",
            f"{message}: {error.strerror or error}.",
            f"{remedy[:-1]} and has {size // 1_000_000} MB free.",
            kind=kind,
        ) from None


@contextmanager
def atomic_file(target: Path) -> Iterator[Path]:
    """Yield an empty temporary file to fill; it becomes ``target`` unless the block raises.

    An existing file is replaced. Symbolic links are followed; devices and pipes are written
    directly.
    """
    if target.exists() and not target.is_file():
        yield target
        return
    target = Path(os.path.realpath(target))
    target.parent.mkdir(parents=True, exist_ok=True)
    with _temporary(target) as partial:
        yield partial
        _flush(partial)
        partial.replace(target)
        _flush(target.parent)


@contextmanager
def atomic_directory(target: Path) -> Iterator[Path]:
    """Yield an empty temporary directory to fill; it becomes ``target`` unless the block raises.

    A directory that is there already is exchanged for the new one in one step and then removed;
    whether it may be replaced is for the caller to check.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    remove_leftovers(target)
    with _temporary(target, directory=True) as partial:
        yield partial
        for path in partial.rglob("*"):
            if path.is_file():
                _flush(path)
        if target.exists():
            _exchange(partial, target)
        else:
            partial.rename(target)
        _flush(target.parent)


def remove_leftovers(target: Path) -> None:
    """Remove what killed processes left of earlier writes to ``target``.

    A living writer holds a lock on its temporary file.
    """
    named = re.compile(re.escape(f".{target.name[:_NAME_LENGTH]}-") + "[0-9a-f]{12}" + PARTIAL)
    for entry in target.parent.iterdir():
        if named.fullmatch(entry.name):
            remove_leftover(entry)


def remove_leftover(path: Path) -> None:
    """Remove a temporary file or directory unless its writer is alive."""
    with contextlib.suppress(OSError), _locked(path):
        shutil.rmtree(path) if path.is_dir() else path.unlink()


@contextmanager
def exclusive(target: Path, *, kind: type[RefusedInput] = RefusedInput) -> Iterator[None]:
    """Hold the right to write ``target`` for the block; ``kind`` while another process holds it."""
    target.parent.mkdir(parents=True, exist_ok=True)
    lock = target.with_name(f".{target.name[:_NAME_LENGTH]}-lock{PARTIAL}")
    taken = refusal(
        "place-taken",
        f"Another run is writing to '{target}'.",
        "Wait until it has finished, or choose another place.",
        kind=kind,
    )
    with contextlib.ExitStack() as held:
        try:
            while True:
                lock.touch()
                file = held.enter_context(_locked(lock))
                with contextlib.suppress(FileNotFoundError):  # removed by its last holder
                    if os.path.samestat(os.fstat(file), lock.stat()):
                        break
        except BlockingIOError:
            raise taken from None
        try:
            yield
        finally:
            lock.unlink(missing_ok=True)


@contextmanager
def _temporary(target: Path, *, directory: bool = False) -> Iterator[Path]:
    """A new file or directory under a hidden name beside ``target``, locked and then removed."""
    partial = target.with_name(f".{target.name[:_NAME_LENGTH]}-{secrets.token_hex(6)}{PARTIAL}")
    if directory:
        partial.mkdir()
    else:
        os.close(os.open(partial, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
    try:
        with contextlib.ExitStack() as held:
            with contextlib.suppress(OSError):  # file systems without locks
                held.enter_context(_locked(partial))
            yield partial
    finally:
        if partial.is_dir():
            shutil.rmtree(partial, ignore_errors=True)
        partial.unlink(missing_ok=True)


@contextmanager
def _locked(path: Path) -> Iterator[int]:
    """Hold the lock of a file or directory; ``OSError`` when another process holds it.

    Yields the file descriptor.
    """
    file = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield file
    finally:
        os.close(file)


def _exchange(one: Path, other: Path) -> None:
    """Swap two directories in one step; in two where the file system cannot."""
    libc = ctypes.CDLL(None, use_errno=True)
    names = [os.fsencode(path.absolute()) for path in (one, other)]
    if not libc.renameat2(_AT_FDCWD, names[0], _AT_FDCWD, names[1], _RENAME_EXCHANGE):
        return
    aside = one.with_name(f"{one.name}-old")
    other.rename(aside)
    try:
        one.rename(other)
    except OSError:
        aside.rename(other)
        raise
    aside.rename(one)


def _flush(path: Path) -> None:
    file = os.open(path, os.O_RDONLY)
    try:
        os.fsync(file)
    finally:
        os.close(file)
