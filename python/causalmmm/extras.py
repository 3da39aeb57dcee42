"""Installed packages: this one's version, and those of extras, with the error for a missing one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

# A package and the extra that brings it, as in pyproject.toml.
_EXTRA = {
    "torch": "torch",
    "safetensors": "torch",
    "onnxruntime": "runtime",
    "pyarrow": "runtime",
    "onnx": "onnx",
    "onnxscript": "onnx",
    "fastapi": "serve",
    "flatbuffers": "serve",
    "prometheus_client": "serve",
    "uvicorn": "serve",
    "matplotlib": "plot",
}


@contextmanager
def needing(what: str) -> Iterator[None]:
    """Imports for the sake of ``what``: the error for a missing package says what to install."""
    try:
        yield
    except ImportError as error:
        package = (error.name or "").partition(".")[0]
        if package not in _EXTRA:
            raise
        raise ImportError(
            f"{what} needs the package {package}: pip install 'causalmmm[{_EXTRA[package]}]'",
            name=package,
        ) from error


def package_version() -> str:
    """Version of the installed package, or "source" when it is used from its source tree."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("causalmmm")
    except PackageNotFoundError:
        return "source"
