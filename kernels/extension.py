"""Whether the compiled extension ``causalmmm._C`` is there, and what its CPU operators take."""

from __future__ import annotations

from importlib.util import find_spec

import torch
from torch import Tensor


def built(entry: str) -> bool:
    """Whether the extension has this function or constant: a source tree has none without a build,
    and a build older than the source lacks what came since."""
    if find_spec("causalmmm._C") is None:
        return False
    from causalmmm import _C

    return hasattr(_C, entry)


def float32_on_cpu(x: Tensor) -> bool:
    """Whether a tensor is of the one kind that operators without a GPU form take."""
    return x.device.type == "cpu" and x.dtype == torch.float32
