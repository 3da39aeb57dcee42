"""Arrays of rows that live in a file and are mapped into memory, for panels larger than it.

Which panels are held so, and in which folder, is decided in ``partitions``.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

_ROWS_AT_ONCE = 1 << 18
_CGROUP = Path("/sys/fs/cgroup/memory.max")
_MOUNTS = Path("/proc/self/mountinfo")


class RowsFile:
    """float32 [rows, columns], written block after block, then mapped read-only.

    The file has no name: it replaces nothing in ``folder``, and the system removes it as soon as no
    array is left of it, however the process ends.
    """

    def __init__(self, folder: Path, columns: int) -> None:
        self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115  (closed once it is mapped)
        self._shape = 0, columns

    def append(self, block: NDArray[np.float32]) -> None:
        """Write further rows [rows, columns]."""
        rows, columns = self._shape
        self._shape = rows + len(block), columns
        if block.size:
            self._file.write(np.ascontiguousarray(block, np.float32).data.cast("B"))

    def mapped(self) -> NDArray[np.float32]:
        """All rows; ends the writing."""
        with self._file as file:
            if not np.prod(self._shape):
                return np.zeros(self._shape, np.float32)
            file.flush()
            return np.asarray(np.memmap(file, np.float32, "r", shape=self._shape))


def row_numbers(begin: NDArray[np.int64], counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """int64: ``counts`` consecutive rows from each of ``begin``, one run after the other."""
    ends = np.cumsum(counts)
    return np.arange(ends[-1]) + np.repeat(begin - ends + counts, counts)


def take_rows(
    array: NDArray[np.float32],
    begin: NDArray[np.int64],
    counts: NDArray[np.int64],
    folder: Path,
) -> NDArray[Any]:
    """The rows of ``row_numbers``, in a file of their own in ``folder``; bounded memory."""
    block = array.reshape(len(array), -1)
    file = RowsFile(folder, block.shape[1])
    runs = max(1, _ROWS_AT_ONCE // int(counts.max()))
    for k in range(0, len(begin), runs):
        file.append(block[row_numbers(begin[k : k + runs], counts[k : k + runs])])
    return file.mapped().reshape(-1, *array.shape[1:])


def host_memory() -> int:
    """Bytes that this process may still take on the host."""
    free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):  # with what caches would give back
            free = 1024 * int(line.split()[1])
    limit = _CGROUP.read_text().strip() if _CGROUP.is_file() else "max"
    return free if limit == "max" else min(free, int(limit))


def is_memory(folder: Path) -> bool:
    """Whether files in ``folder`` take memory instead of disk (tmpfs)."""
    device = folder.stat().st_dev
    number = f"{os.major(device)}:{os.minor(device)}"
    lines = _MOUNTS.read_text().splitlines() if _MOUNTS.is_file() else []
    mounts = (line.partition(" - ")[::2] for line in lines)
    return any(
        place.split()[2] == number and kind.split()[0] in ("tmpfs", "ramfs")
        for place, kind in mounts
    )


def size_text(number: float) -> str:
    """A number of bytes as text such as "12.3 MB"."""
    for unit in ("bytes", "kB", "MB", "GB", "TB"):
        if number < 1000:
            return f"{number:.3g} {unit}"
        number /= 1000
    return f"{number:.3g} PB"
