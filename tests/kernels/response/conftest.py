"""Helper modules beside the tests are importable; the operator on every instruction set."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from response_problems import Operator, levels, on_level


@pytest.fixture(params=[*levels(), "reference"])
def operator(request: pytest.FixtureRequest) -> Iterator[Operator]:
    """The public function on every instruction set of this processor, and the reference."""
    with on_level(request.param) as chosen:
        yield chosen
