"""Launch settings of the Triton kernels by hidden width and bytes of a number: a table.

No run-time tuning: two ranks, or two runs, could choose different tilings and so different bits.
"""

from __future__ import annotations

from dataclasses import dataclass

MAX_TYPES = 4
MAX_FEATURES = 32
MAX_NODES = 256
WORKSPACE_BYTES = 512 << 20  # scratch of one call, whatever the number of stores
PARTS = 128  # partial sums of a weight gradient: fixed, so that sums do not depend on the device
WEIGHT_BLOCK = 128  # a weight gradient is summed in blocks of this many rows and columns


@dataclass(frozen=True)
class Launch:
    """rows: of a tile; warps, stages: as Triton means them.

    registers of a thread, spill: bytes it puts into local memory. Both are what ptxas reports for
    sm_90 with bfloat16 or float32, 8 features and 2 edge types, rounded up; the worst of the
    kernels that share a row. Tests compile every row and hold it to them.
    """

    rows: int
    warps: int
    stages: int = 1
    registers: int = 255
    spill: int = 0


# Chosen by compiling, not yet by timing. `MEAN` and `SAMPLE` kernels walk over senders with a tile
# of receivers, `LAYER` kernels pass once over scratch, `WEIGHT` sums over edges. Where SAMPLE has
# no row, three weights do not fit shared memory together, and sampling goes layer by layer; where
# no table has one (float32, 256), a single weight does not, and `chunked` is used.
MEAN = {
    (32, 2): Launch(64, 4, registers=96),
    (64, 2): Launch(64, 4, registers=168),
    (128, 2): Launch(64, 8),
    (256, 2): Launch(64, 8, stages=2, spill=700),
    (32, 4): Launch(64, 4, registers=136),
    (64, 4): Launch(64, 4),
    (128, 4): Launch(64, 8, spill=700),
}
SAMPLE = {
    (32, 2): Launch(64, 4, registers=128),
    (64, 2): Launch(64, 4, registers=224),
    (128, 2): Launch(64, 8, spill=64),
    (32, 4): Launch(64, 4, registers=240),
    (64, 4): Launch(64, 4, spill=512),
}
LAYER = {
    (32, 2): Launch(64, 4, registers=72),
    (64, 2): Launch(64, 4, registers=136),
    (128, 2): Launch(64, 8, registers=152),
    (256, 2): Launch(64, 8, spill=320),
    (32, 4): Launch(64, 4, registers=112),
    (64, 4): Launch(64, 4, registers=192),
    (128, 4): Launch(64, 8, spill=352),
}
WEIGHT = {
    (32, 2): Launch(64, 4, registers=80),
    (64, 2): Launch(64, 4, registers=104),
    (128, 2): Launch(64, 8, registers=136),
    (256, 2): Launch(64, 8, registers=136),
    (32, 4): Launch(64, 4, registers=240),
    (64, 4): Launch(64, 4, registers=216),
    (128, 4): Launch(64, 8, spill=32),
}
