"""Files and directories appear whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from causalmmm.files import (
    PARTIAL,
    atomic_directory,
    atomic_file,
    check_writable,
    exclusive,
    remove_leftovers,
    require_file,
    write_atomically,
)
from causalmmm.findings import PanelError, RefusedInput


class Interrupted(Exception):
    pass


@pytest.fixture
def umask() -> Iterator[int]:
    """A umask that is neither 0 nor the one of ``mkstemp``."""
    before = os.umask(0o027)
    yield 0o027
    os.umask(before)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_is_written_into_folders_that_were_not_there(tmp_path: Path) -> None:
    target = tmp_path / "new" / "folder" / "file.txt"
    write_atomically(target, "naïve")
    assert target.read_bytes() == "naïve".encode()
    assert names(target.parent) == ["file.txt"]


def test_an_interrupted_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    target = tmp_path / "file"
    write_atomically(target, b"old")

    def interrupted() -> None:
        with atomic_file(target) as partial:
            partial.write_bytes(b"ne")
            assert target.read_bytes() == b"old"
            raise Interrupted

    with pytest.raises(Interrupted):
        interrupted()
    assert target.read_bytes() == b"old"
    assert names(tmp_path) == ["file"]


def test_a_file_replaces_the_one_before(tmp_path: Path) -> None:
    target = tmp_path / "file"
    write_atomically(target, b"old and longer")
    write_atomically(target, b"new")
    assert target.read_bytes() == b"new"


def test_permissions_follow_the_umask(tmp_path: Path, umask: int) -> None:
    write_atomically(tmp_path / "file", b"")
    with atomic_directory(tmp_path / "folder") as partial:
        (partial / "inner").write_bytes(b"")
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o666 & ~umask
    assert (tmp_path / "folder").stat().st_mode & 0o777 == 0o777 & ~umask


def test_leftovers_of_a_killed_process_can_be_recognised(tmp_path: Path) -> None:
    with atomic_file(tmp_path / "file") as partial:
        assert partial.parent == tmp_path
        assert partial.name.startswith(".")
        assert partial.name.endswith(PARTIAL)


def test_leftovers_of_a_killed_process_are_removed_but_not_those_of_a_living_one(
    tmp_path: Path,
) -> None:
    target = tmp_path / "folder"
    with atomic_directory(target) as alive, atomic_file(tmp_path / "file") as file:
        dead = alive.with_name(f".folder-{'0' * 12}{PARTIAL}")
        dead.mkdir()
        (dead / "half").write_text("half")
        (tmp_path / ".folder-notes").write_text("mine")
        remove_leftovers(target)
        assert names(tmp_path) == sorted([".folder-notes", alive.name, file.name])


def test_the_longest_file_names_can_be_written(tmp_path: Path) -> None:
    for name in ("x" * 255, "ü" * 127):
        write_atomically(tmp_path / name, b"1")
        assert (tmp_path / name).read_bytes() == b"1"


def test_a_link_is_followed(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    real, link = tmp_path / "elsewhere" / "real", tmp_path / "link"
    link.symlink_to(real)
    write_atomically(link, b"1")
    write_atomically(link, b"2")
    assert link.is_symlink()
    assert real.read_bytes() == b"2"


def test_a_device_is_written_directly() -> None:
    write_atomically(Path("/dev/null"), b"gone")
    assert Path("/dev/null").is_char_device()


def test_a_directory_replaces_the_one_before_as_a_whole(tmp_path: Path) -> None:
    target = tmp_path / "folder"
    for name in ("first", "second"):
        with atomic_directory(target) as partial:
            (partial / name).write_text(name)
            assert not (target / name).exists()
        assert names(target) == [name]
    assert names(tmp_path) == ["folder"]


def test_an_interrupted_directory_leaves_the_old_one_and_nothing_else(tmp_path: Path) -> None:
    target = tmp_path / "folder"
    with atomic_directory(target) as partial:
        (partial / "old").write_text("old")

    def interrupted() -> None:
        with atomic_directory(target) as partial:
            (partial / "new").write_text("new")
            raise Interrupted

    with pytest.raises(Interrupted):
        interrupted()
    assert names(target) == ["old"]
    assert names(tmp_path) == ["folder"]


def test_a_directory_that_cannot_be_put_in_place_leaves_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "folder"
    with atomic_directory(target) as partial:
        (partial / "old").write_text("old")

    def fail(one: Path, other: Path) -> None:
        raise OSError("no space left")

    monkeypatch.setattr("causalmmm.files._exchange", fail)
    with pytest.raises(OSError, match="no space left"), atomic_directory(target) as partial:
        (partial / "new").write_text("new")
    assert names(target) == ["old"]
    assert names(tmp_path) == ["folder"]


def test_a_directory_is_exchanged_where_the_file_system_cannot_do_it_in_one_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class OldLibrary:
        def renameat2(self, *arguments: object) -> int:
            return -1

    monkeypatch.setattr("ctypes.CDLL", lambda *a, **k: OldLibrary())
    target = tmp_path / "folder"
    for name in ("first", "second"):
        with atomic_directory(target) as partial:
            (partial / name).write_text(name)
        assert names(target) == [name]
    assert names(tmp_path) == ["folder"]


def test_one_process_at_a_time_has_the_right_to_write(tmp_path: Path) -> None:
    target = tmp_path / "runs" / "a"
    with exclusive(target):
        with pytest.raises(RefusedInput, match="Another run is writing"), exclusive(target):
            pass
        with exclusive(tmp_path / "runs" / "b"):
            pass
    with exclusive(target):
        pass
    assert names(tmp_path / "runs") == []


def test_places_where_nothing_can_be_written_are_found_before_work_begins(tmp_path: Path) -> None:
    check_writable(tmp_path / "new" / "folder")
    assert names(tmp_path) == []
    (tmp_path / "file").write_text("mine")
    with pytest.raises(PanelError, match="it is no folder"):
        check_writable(tmp_path / "file" / "model", kind=PanelError)
    with pytest.raises(RefusedInput, match=r"(?s)Nothing can be written below.* MB free"):
        check_writable(tmp_path / "huge", size=1 << 60)
    assert names(tmp_path) == ["file"]
    with pytest.raises(RefusedInput, match="place-taken"):
        check_writable(Path("/proc/nothing/here"))


def test_a_missing_input_file_is_refused_as_the_kind_asked_for(tmp_path: Path) -> None:
    with pytest.raises(RefusedInput, match="no-such-file"):
        require_file(tmp_path / "nothing")
    with pytest.raises(PanelError, match="does not exist"):
        require_file(tmp_path, kind=PanelError)
