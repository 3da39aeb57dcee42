"""Resident memory of this process, and how far one call makes it grow. Linux only."""

from __future__ import annotations

import resource
import threading
from collections.abc import Callable
from pathlib import Path


def resident_bytes(process: int | str = "self") -> int:
    """Resident memory of a process, this one by default."""
    pages = Path(f"/proc/{process}/statm").read_text(encoding="ascii").split()[1]
    return int(pages) * resource.getpagesize()


def growth(work: Callable[[], None]) -> int:
    """Bytes by which this process grows, at most, while `work` runs (sampled every millisecond)."""
    sizes, done = [resident_bytes()], threading.Event()

    def watch() -> None:
        while not done.wait(0.001):
            sizes.append(resident_bytes())

    watcher = threading.Thread(target=watch)
    watcher.start()
    work()
    done.set()
    watcher.join()
    return max(sizes) - sizes[0]
