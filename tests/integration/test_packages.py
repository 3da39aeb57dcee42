"""What is handed out: the sdist and the wheels of `make package-check`, which builds them."""

from __future__ import annotations

import json
import os
import subprocess
import tarfile
import tomllib
from pathlib import Path
from zipfile import ZipFile

import pytest

ROOT = Path(__file__).parents[2]
VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
FOLDER = Path(os.environ.get("CAUSALMMM_PACKAGES", "none"))
PYTHONS = os.environ.get("CAUSALMMM_WHEEL_PYTHONS", "").split()
WHEELS = sorted(FOLDER.glob("wheelhouse/*.whl"))
WHEEL_BYTES, SDIST_BYTES = 2_500_000, 3_000_000  # without CUDA kernels
pytestmark = pytest.mark.skipif(not WHEELS, reason="needs built wheels: make package-check")

every_wheel = pytest.mark.parametrize("wheel", WHEELS, ids=lambda path: path.name)


def sources(folder: str) -> set[str]:
    """The files of a folder that git keeps, relative to the repository."""
    found = subprocess.run(
        ["git", "ls-files", folder], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split("\n")
    return {name for name in found if name and not (ROOT / name).is_symlink()}


@pytest.fixture(scope="module")
def sdist() -> set[str]:
    (path,) = FOLDER.glob("sdist/*.tar.gz")
    assert path.name == f"causalmmm-{VERSION}.tar.gz"
    assert path.stat().st_size < SDIST_BYTES
    with tarfile.open(path) as archive:
        return {member.name.split("/", 1)[1] for member in archive if member.isfile()}


@every_wheel
def test_a_wheel_holds_the_package_and_nothing_else(wheel: Path) -> None:
    names = {name for name in ZipFile(wheel).namelist() if not name.endswith("/")}
    package = {name for name in names if name.startswith("causalmmm/")}
    compiled = {name for name in package if name.endswith(".so")}
    assert len(compiled) == 1
    assert compiled.pop().startswith("causalmmm/_C.cpython-")
    expected = {name.removeprefix("python/") for name in sources("python")}
    expected |= {f"causalmmm/{name}" for name in sources("engine") | sources("kernels")}
    assert {name for name in package if not name.endswith(".so")} == expected
    assert expected >= {
        "causalmmm/_C.pyi",
        "causalmmm/py.typed",
        "causalmmm/report/page.html.j2",
        "causalmmm/engine/prior/weights/record.json",
        "causalmmm/engine/prior/weights/weights.safetensors",
    }
    beside = {name.split("/")[0] for name in names - package}
    assert beside <= {f"causalmmm-{VERSION}.dist-info", "causalmmm.libs"}
    assert f"causalmmm-{VERSION}.dist-info/licenses/LICENSE" in names
    materials = ZipFile(wheel).read(f"causalmmm-{VERSION}.dist-info/sboms/causalmmm.cdx.json")
    assert json.loads(materials)["components"][0]["name"] == "pybind11"


@every_wheel
def test_a_wheel_is_small_and_names_the_linux_it_runs_on(wheel: Path) -> None:
    assert wheel.stat().st_size < WHEEL_BYTES
    assert "-manylinux_2_" in wheel.name


def test_the_sdist_holds_what_a_build_reads(sdist: set[str]) -> None:
    expected = {"CMakeLists.txt", "pyproject.toml", "README.md", "LICENSE", "CHANGELOG.md"}
    for folder in ("csrc", "engine", "kernels", "python"):
        expected |= sources(folder)
    assert sdist >= expected
    assert not {name for name in sdist if name.endswith((".so", ".pyc"))}
    assert not {name for name in sdist if name.startswith((".ci", "bench", "build"))}


@pytest.mark.parametrize("python", PYTHONS)
def test_a_wheel_installs_in_a_clean_environment(python: str, tmp_path: Path) -> None:
    subprocess.run([python, "-m", "venv", tmp_path], check=True)
    pip = [tmp_path / "bin" / "python", "-m", "pip", "install", "-q", "--only-binary", ":all:"]
    wheel = ["--no-index", "--no-deps", "--find-links", FOLDER / "wheelhouse", "causalmmm"]
    subprocess.run([*pip, *wheel], check=True)
    subprocess.run([*pip, f"causalmmm=={VERSION}"], check=True)  # what it depends on
    code = "from causalmmm import _C; print('module', _C.build_info()['version'])"
    for line, answer in (
        (["causalmmm", "--version"], f"causalmmm {VERSION}"),
        (["python", "-P", "-c", code], f"module {VERSION}"),
    ):
        command = [tmp_path / "bin" / line[0], *line[1:]]
        # Nothing of the source tree or of this interpreter is to be found by the other.
        clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        done = subprocess.run(command, capture_output=True, text=True, check=True, env=clean)
        assert done.stdout.strip() == answer
