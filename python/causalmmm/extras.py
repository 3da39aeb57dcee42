"""Installed packages: the version of this one, and which extra installs which optional one.

No optional package is imported here; such imports stay where they are used, inside ``needing``.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

# Package -> the extra that installs it, as in pyproject.toml.
_EXTRA = {
    "torch": "torch",
    "safetensors": "torch",
    "onnxruntime": "runtime",
    "pyarrow": "runtime",
    "onnx": "onnx",
    "fastapi": "serve",
    "flatbuffers": "serve",
    "prometheus_client": "serve",
    "uvicorn": "serve",
    "matplotlib": "plot",
    "jinja2": "report",
    "plotly": "report",
}


@contextmanager
def needing(feature: str) -> Iterator[None]:
    """Wrap the imports that ``feature`` needs: if one is missing, the error names the extra."""
    try:
        yield
    except ImportError as error:
        package = (error.name or "").partition(".")[0]
        if package not in _EXTRA:
            raise
        raise ImportError(
            f"{feature} needs the package {package}: pip install 'causalmmm[{_EXTRA[package]}]'",
            name=package,
        ) from error


def package_version() -> str:
    """Version of the installed package, or "source" when it is used from its source tree."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("causalmmm")
    except PackageNotFoundError:
        return "source"
