"""A compiled extension beside a source tree belongs to it, or is refused before it answers."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from shutil import copytree
from types import ModuleType

import pytest

from causalmmm.kernels.extension import refuse_other_sources, sources_digest

_C = pytest.importorskip("causalmmm._C", reason="needs the compiled extension")
ROOT = Path(__file__).parents[2]


def test_the_digest_knows_every_byte_and_name_of_the_sources(tmp_path: Path) -> None:
    sources = Path(copytree(ROOT / "csrc", tmp_path / "csrc"))
    first = sources_digest(sources)
    assert first == sources_digest(ROOT / "csrc")
    (sources / "notes.txt").write_text("nothing that is compiled")
    assert sources_digest(sources) == first
    header = sources / "common" / "cpu_level.h"
    before = header.read_bytes()
    header.write_bytes(before.replace(b"kAvx2 = 1", b"kAvx2 = 3"))
    assert sources_digest(sources) != first
    header.write_bytes(before)
    assert sources_digest(sources) == first
    header.rename(header.with_name("level.h"))
    assert sources_digest(sources) != first


def test_an_extension_of_other_sources_is_refused_with_a_remedy(tmp_path: Path) -> None:
    refuse_other_sources(_C, ROOT / "csrc")
    refuse_other_sources(_C, tmp_path / "no-sources")
    sources = Path(copytree(ROOT / "csrc", tmp_path / "csrc"))
    (sources / "common" / "new.h").write_text("#pragma once\n")
    with pytest.raises(ImportError, match=r"other C\+\+ sources .* pip install \."):
        refuse_other_sources(_C, sources)
    old = ModuleType("old")
    old.__file__ = "_C.so"
    with pytest.raises(ImportError, match="was built from other"):
        refuse_other_sources(old, ROOT / "csrc")


def test_a_stale_extension_stops_the_import_of_a_source_tree(tmp_path: Path) -> None:
    for name in ("csrc", "kernels"):
        copytree(ROOT / name, tmp_path / name)
    package = tmp_path / "python" / "causalmmm"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "kernels").symlink_to(tmp_path / "kernels")
    assert _C.__file__ is not None
    (package / Path(_C.__file__).name).symlink_to(_C.__file__)
    run = [sys.executable, "-c", "import causalmmm.kernels.calendar"]
    subprocess.run(run, env={"PYTHONPATH": str(package.parent)}, check=True)
    with (tmp_path / "csrc" / "common" / "vector.h").open("a") as header:
        header.write("// changed since\n")
    stale = subprocess.run(run, env={"PYTHONPATH": str(package.parent)}, capture_output=True)
    assert stale.returncode == 1
    assert b"Build it again" in stale.stderr
