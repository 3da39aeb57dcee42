"""Whether the compiled extension ``causalmmm._C`` is there, and what its CPU operators take."""

from __future__ import annotations

from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

import torch
from torch import Tensor

_SUFFIXES = (".h", ".cpp", ".cu")


def sources_digest(folder: Path) -> str:
    """SHA-256 over names and contents of the C++ and CUDA sources in ``csrc``, as CMakeLists.txt
    compiles it into the extension."""
    paths = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*")}
    listing = "".join(
        f"{name} {sha256(paths[name].read_bytes()).hexdigest()}\n"
        for name in sorted(paths)
        if name.endswith(_SUFFIXES)
    )
    return sha256(listing.encode()).hexdigest()


def refuse_other_sources(extension: ModuleType, folder: Path) -> None:
    """``ImportError`` where an extension beside a source tree was built from other sources: its
    answers would be slow or wrong without a word. An installed package has no sources."""
    digest = getattr(extension, "SOURCES", None)
    if folder.is_dir() and digest != sources_digest(folder):
        raise ImportError(
            f"'{extension.__file__}' was built from other C++ sources than those in '{folder}'. "
            "Build it again (cmake -S . -B build/ext && cmake --build build/ext) and put it in its "
            "place; or pip install ."
        )


def _is_built() -> bool:
    if find_spec("causalmmm._C") is None:
        return False
    from causalmmm import _C

    refuse_other_sources(_C, Path(__file__).resolve().parent.parent / "csrc")
    return True


BUILT = _is_built()  # a source tree has no extension without a build


def float32_on_cpu(x: Tensor) -> bool:
    """Whether a tensor is of the one kind that operators without a GPU form take."""
    return x.device.type == "cpu" and x.dtype == torch.float32
