"""How many threads an update is worth on a CPU."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

# Below this many values of an update per thread, waking and waiting cost more than a thread saves.
_VALUES_PER_THREAD = 30_000


@contextmanager
def threads_for(values: int) -> Iterator[int]:
    """Within this context torch and the compiled operators use as many threads as updates of
    ``values`` values keep busy, and at most as many as before; yields their number.

    >>> with threads_for(1_000) as threads:
    ...     print(threads)
    1
    """
    before = torch.get_num_threads()
    threads = min(before, max(1, values // _VALUES_PER_THREAD))
    torch.set_num_threads(threads)
    try:
        yield threads
    finally:
        torch.set_num_threads(before)
