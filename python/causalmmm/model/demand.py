"""The least memory that a fit needs, known before it begins, and the refusal of what is too much.

Counted are arrays that every fit of these sizes holds at once, not their temporary copies: what is
refused would fail. They grow with the square or the cube of the number of series.
"""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from causalmmm.data.panel import Panel
from causalmmm.engine.spec.config import ModelConfig, TrainConfig
from causalmmm.findings import PanelError, refusal
from causalmmm.model.regimes import chosen_regime

if TYPE_CHECKING:
    from causalmmm.model.estimator import CausalMMM

_VALUES_PER_UPDATE = 100_000  # as ``engine.training.schedule`` chooses batches
_CGROUP = Path("/sys/fs/cgroup")


def memory_needed(panel: Panel, regime: str, config: ModelConfig, training: TrainConfig) -> int:
    """Bytes of the largest arrays of a fit, a lower bound.

    regression  normal equations of every store in float64.
    amortised   normal equations of the responses and lags of a batch of stores; for learned graphs
                also the pooled ones of every prototype and receiver, [P, N, N D, N D].
    """
    nodes, stores = len(panel.nodes), panel.n_stores
    responses = nodes * len(config.decays)
    if regime == "regression":
        return 8 * stores * (2 * nodes) ** 2
    steps = min(int(np.median(panel.lengths)), training.window)
    usual = int(np.clip(_VALUES_PER_UPDATE // (steps * nodes), 8, 256))
    batch = min(training.batch_stores or usual, stores)
    needed = 4 * batch * (responses**2 + (nodes * config.lags) ** 2)
    if config.structure == "learned":
        needed += 4 * config.prototypes * nodes * responses**2
    return needed


def least_memory(model: CausalMMM, panel: Panel) -> str:
    """What ``check_memory`` will compare with the memory there is, as text such as "12.3 MB"."""
    regime, _ = chosen_regime(model.regime, model.structure, panel)
    config, training = model.model_config(panel.n_stores), model.train_config()
    return _size(memory_needed(panel, regime, config, training))


def memory_available(device: torch.device) -> int:
    """Bytes that a fit may take on this machine or GPU now."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):  # with what caches would give back
            free = 1024 * int(line.split()[1])
    return int(min(free, _left_in_container()))


def _left_in_container() -> float:
    """Bytes that the container's limit leaves, by cgroups of version 2 or 1; infinite without one.

    Files in the inactive page cache count as used there, but are dropped when memory is needed.
    """
    for folder, limit, used, cache in (
        (_CGROUP, "memory.max", "memory.current", "inactive_file"),
        (_CGROUP / "memory", "memory.limit_in_bytes", "memory.usage_in_bytes",
         "total_inactive_file"),
    ):  # fmt: skip
        most = _read(folder / limit)
        if most.isdecimal():  # 'max' where there is none; version 1 has a number near 2^63 then
            stat = dict(line.split() for line in _read(folder / "memory.stat").splitlines())
            taken = int(_read(folder / used) or 0) - int(stat.get(cache, 0))
            return max(0, int(most) - max(0, taken))
    return math.inf


def _read(file: Path) -> str:
    """The text of a file of the system, or nothing where it is not there."""
    try:
        return file.read_text().strip()
    except OSError:
        return ""


def check_memory(
    panel: Panel, regime: str, config: ModelConfig, training: TrainConfig, device: torch.device
) -> None:
    """Raise ``PanelError`` where a fit needs more memory than there is."""
    needed, available = (
        memory_needed(panel, regime, config, training),
        memory_available(device),
    )
    if needed > available:
        raise refusal(
            "too-many-series",
            f"A fit of {len(panel.nodes)} series needs at least {_size(needed)} of memory, and "
            f"this machine has {_size(available)}.",
            "Combine channels, give fewer decays and delays, take structure='evidence', or fewer "
            "prototypes (memory grows with the third power of the number of series).",
            kind=PanelError,
        )


def _size(number: float) -> str:
    for unit in ("bytes", "kB", "MB", "GB", "TB"):
        if number < 1000:
            return f"{number:.3g} {unit}"
        number /= 1000
    return f"{number:.3g} PB"
