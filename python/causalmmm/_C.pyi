"""Types of the compiled module; its source is csrc/bindings.cpp."""

from typing import TypedDict

class BuildInfo(TypedDict):
    version: str
    cuda: bool
    openmp: bool
    cpu_level: str

def build_info() -> BuildInfo: ...
