"""Launch settings of the Triton kernels by architecture, hidden width and bytes of a number.

Numbers only, no code that launches. No run-time tuning: two ranks, or two runs, could choose
different tilings and so different bits. `bench/kernels/edge_tune.py` rewrites the tables.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

MAX_TYPES = 4
MAX_FEATURES = 32
MAX_NODES = 256
WORKSPACE_BYTES = 512 << 20  # scratch of one call, whatever the number of stores
PARTS = 128  # partial sums of a weight gradient: fixed, so that sums do not depend on the device
WEIGHT_BLOCK = 128  # a weight gradient is summed in blocks of this many rows and columns
MEASURED = "sm_90"  # the architecture whose rows others borrow where they have none of their own
SHARED_BYTES = 232_448  # what one block may have there


@dataclass(frozen=True)
class Launch:
    """rows: of a tile; warps, stages: as Triton means them; depth: of the inner dimension of a
    product at a time, where a whole weight does not fit shared memory (0: all of it).

    registers of a thread, spill: bytes it puts into local memory, shared: bytes of a block. All are
    what ptxas and Triton report with bfloat16 or float32, 8 features and 2 edge types, rounded up;
    the worst of the kernels that share a row, and of Triton 3.6 and 3.7. Tests compile every row
    and hold it to them.
    microseconds: of the operator at the tuner's size, cache cold; None until it has been timed.
    """

    rows: int
    warps: int
    stages: int = 1
    depth: int = 0
    registers: int = 255
    spill: int = 0
    shared: int = SHARED_BYTES
    microseconds: float | None = None


Table = Mapping[tuple[str, int, int], Launch]


def find(
    table: Table,
    width: int,
    size: int,
    architecture: str = MEASURED,
    shared: int = SHARED_BYTES,
) -> Launch | None:
    """The row for this device, else that of `MEASURED`, if a block has the shared memory for it."""
    row = table.get((architecture, width, size)) or table.get((MEASURED, width, size))
    return row if row is not None and row.shared <= shared else None


# MEAN and SAMPLE: the fused forward kernels, a tile of receivers looping over senders. LAYER:
# kernels of one layer, over scratch. WEIGHT: sums over edges. Where MEAN or SAMPLE has no row, its
# weights do not fit shared memory together, or only in launches that Triton compiles wrongly
# (`edge_compile.sound`), and it goes layer by layer.
MEAN: Table = {
    ("sm_90", 32, 2): Launch(64, 4, registers=96, shared=7168),
    ("sm_90", 64, 2): Launch(64, 4, registers=168, shared=18432),
    ("sm_90", 128, 2): Launch(64, 8, shared=53248),
    ("sm_90", 256, 2): Launch(64, 8, stages=2, spill=672, shared=159744),
    ("sm_90", 32, 4): Launch(64, 4, registers=128, shared=20480),
    ("sm_90", 64, 4): Launch(64, 4, shared=57344),
}
SAMPLE: Table = {
    ("sm_90", 32, 2): Launch(64, 4, registers=120, shared=11264),
    ("sm_90", 64, 2): Launch(64, 4, registers=216, shared=34816),
    ("sm_90", 128, 2): Launch(64, 8, spill=64, shared=118784),
    ("sm_90", 32, 4): Launch(64, 4, registers=240, shared=36864),
    ("sm_90", 64, 4): Launch(64, 4, spill=480, shared=122880),
}
LAYER: Table = {
    ("sm_90", 32, 2): Launch(64, 4, registers=64, shared=10240),
    ("sm_90", 64, 2): Launch(64, 4, registers=128, shared=24576),
    ("sm_90", 128, 2): Launch(64, 8, registers=152, shared=65536),
    ("sm_90", 256, 2): Launch(64, 8, spill=320, shared=180224),
    ("sm_90", 32, 4): Launch(64, 4, registers=112, shared=8192),
    ("sm_90", 64, 4): Launch(64, 4, registers=184, shared=32768),
    ("sm_90", 128, 4): Launch(128, 8, depth=32, spill=128, shared=65536),
    ("sm_90", 256, 4): Launch(64, 4, depth=32, spill=2784, shared=73728),
}
WEIGHT: Table = {
    ("sm_90", 32, 2): Launch(64, 4, registers=72, shared=4096),
    ("sm_90", 64, 2): Launch(64, 4, registers=96, shared=16384),
    ("sm_90", 128, 2): Launch(64, 8, registers=128, shared=65536),
    ("sm_90", 256, 2): Launch(64, 8, registers=128, shared=65536),
    ("sm_90", 32, 4): Launch(64, 4, registers=240, shared=8192),
    ("sm_90", 64, 4): Launch(64, 4, registers=208, shared=32768),
    ("sm_90", 128, 4): Launch(64, 8, spill=32, shared=65536),
    ("sm_90", 256, 4): Launch(64, 8, spill=32, shared=65536),
}
