"""Launches of the Triton kernels by kernel, architecture, hidden width and bytes of a number.

Numbers only, no code that launches. No run-time tuning: two ranks, or two runs, could choose
different tilings and so different bits. `bench/kernels/edge_tune.py` rewrites the table.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

MAX_TYPES = 4
MAX_FEATURES = 32
MAX_NODES = 256
MAX_GROUP_NODES = 64  # of a fused backward kernel's group, which is one whole store at least
WORKSPACE_BYTES = 64 << 20  # scratch of one call, whatever the number of stores
PARTS = 264  # partial sums of a weight's gradient: fixed, so that sums do not depend on the device
LAYER_PARTS = 128  # the same, of a layer's kernel, which is launched for each block of the weight
WEIGHT_BLOCK = 128  # rows and columns of such a block
MEASURED = "sm_90"  # the architecture whose rows others borrow where they have none of their own
SHARED_BYTES = 232_448  # what one block may have there


@dataclass(frozen=True)
class Launch:
    """rows: of a tile; warps, stages: as Triton means them; depth: of the inner dimension of a
    product at a time, where a whole weight does not fit shared memory (0: all of it).

    What `bench/kernels/edge_compile.py` counts, with 27 features, 16 nodes and 2 edge types:
    instructions: that a lane issues for each edge and unit of the width;
    registers: of a thread; stack: bytes of its local memory, where registers are spilled;
    shared: bytes of a block. Rounded up; tests compile every row and hold it to them.
    microseconds: of the operator at the tuner's size, cache cold; None until it has been timed.
    """

    rows: int
    warps: int
    stages: int = 1
    depth: int = 0
    instructions: float = 0.0
    registers: int = 255
    stack: int = 0
    shared: int = SHARED_BYTES
    microseconds: float | None = None


Table = Mapping[tuple[str, str, int, int], Launch]


def find(
    kernel: str,
    width: int,
    size: int,
    architecture: str = MEASURED,
    shared: int = SHARED_BYTES,
) -> Launch | None:
    """The launch of a kernel on this device, if it has the shared memory. An architecture that has
    no row of the kernel for such numbers borrows those of `MEASURED`; otherwise a width that it has
    no row for is one that does not compile for it."""
    own = any(key[:2] == (kernel, architecture) and key[3] == size for key in LAUNCHES)
    row = LAUNCHES.get((kernel, architecture if own else MEASURED, width, size))
    return row if row is not None and row.shared <= shared else None


# By kernel, architecture, width and bytes of a number. "mean", "logits", "logits, kept": the fused
# forward passes. "first backward", "second backward": the fused backward ones. All others are of
# one layer. Where a fused pass has no row, its weights or sums do not fit a multiprocessor, and it
# goes layer by layer.
LAUNCHES: Table = {
    ("mean", "sm_80", 32, 2): Launch(64, 4, instructions=30.0, registers=128, shared=8192),
    ("mean", "sm_90", 32, 2): Launch(64, 4, instructions=29.5, registers=120, shared=8192),
    ("mean", "sm_100", 32, 2): Launch(64, 4, instructions=29.5, registers=128, shared=12288),
    ("mean", "sm_80", 64, 2): Launch(64, 4, instructions=32.5, shared=20480),
    ("mean", "sm_90", 64, 2): Launch(64, 4, instructions=30.5, shared=20480),
    ("mean", "sm_100", 64, 2): Launch(64, 4, instructions=30.5, registers=240, shared=18432),
    ("mean", "sm_80", 128, 2): Launch(64, 4, instructions=34.5, stack=288, shared=57344),
    ("mean", "sm_90", 128, 2): Launch(64, 4, instructions=29.0, stack=288, shared=49152),
    ("mean", "sm_100", 128, 2): Launch(64, 4, instructions=26.5, stack=320, shared=49152),
    ("mean", "sm_90", 256, 2): Launch(64, 8, instructions=36.5, stack=704, shared=163840),
    ("mean", "sm_90", 32, 4): Launch(64, 4, instructions=54.5, registers=160, shared=24576),
    ("mean", "sm_90", 64, 4): Launch(64, 4, instructions=53.5, stack=32, shared=65536),
    ("logits", "sm_80", 32, 2): Launch(64, 4, instructions=58.5, registers=128, shared=12288),
    ("logits", "sm_90", 32, 2): Launch(64, 4, instructions=58.5, registers=96, shared=12288),
    ("logits", "sm_100", 32, 2): Launch(64, 4, instructions=59.5, registers=128, shared=16384),
    ("logits", "sm_80", 64, 2): Launch(128, 8, instructions=62.5, stack=64, shared=45056),
    ("logits", "sm_90", 64, 2): Launch(64, 4, instructions=57.5, registers=224, shared=36864),
    ("logits", "sm_100", 64, 2): Launch(64, 4, instructions=59.0, registers=232, shared=34816),
    ("logits", "sm_80", 128, 2): Launch(64, 4, instructions=66.5, shared=124928),
    ("logits", "sm_90", 128, 2): Launch(64, 4, instructions=51.5, stack=64, shared=114688),
    ("logits", "sm_100", 128, 2): Launch(64, 4, instructions=53.0, stack=608, shared=114688),
    ("logits", "sm_90", 32, 4): Launch(64, 4, instructions=110.5, registers=192, shared=40960),
    ("logits", "sm_90", 64, 4): Launch(64, 4, instructions=112.5, stack=352, shared=131072),
    ("logits, kept", "sm_80", 32, 2): Launch(64, 4, instructions=32.5, registers=96, shared=12288),
    ("logits, kept", "sm_90", 32, 2): Launch(64, 4, instructions=32.5, registers=80, shared=12288),
    ("logits, kept", "sm_100", 32, 2): Launch(64, 4, instructions=33.5, registers=80, shared=12288),
    ("logits, kept", "sm_80", 64, 2): Launch(64, 4, instructions=31.5, registers=152, shared=32768),
    ("logits, kept", "sm_90", 64, 2): Launch(64, 4, instructions=29.5, registers=128, shared=32768),
    ("logits, kept", "sm_100", 64, 2): Launch(
        64, 4, instructions=31.0, registers=160, shared=26624
    ),
    ("logits, kept", "sm_80", 128, 2): Launch(
        64, 4, instructions=35.0, registers=240, shared=83968
    ),
    ("logits, kept", "sm_90", 128, 2): Launch(64, 4, instructions=26.0, shared=90112),
    ("logits, kept", "sm_100", 128, 2): Launch(
        128, 8, instructions=29.0, registers=248, shared=106496
    ),
    ("logits, kept", "sm_90", 32, 4): Launch(64, 4, instructions=54.5, registers=128, shared=24576),
    ("logits, kept", "sm_90", 64, 4): Launch(64, 4, instructions=57.0, stack=96, shared=81920),
    ("second backward", "sm_80", 32, 2): Launch(64, 4, instructions=52.5, shared=27648),
    ("second backward", "sm_90", 32, 2): Launch(64, 4, instructions=48.5, stack=64, shared=23552),
    ("second backward", "sm_100", 32, 2): Launch(
        64, 4, instructions=61.0, registers=248, shared=25600
    ),
    ("second backward", "sm_80", 64, 2): Launch(64, 4, instructions=54.0, stack=320, shared=67584),
    ("second backward", "sm_90", 64, 2): Launch(
        128, 8, instructions=41.5, registers=248, shared=88064
    ),
    ("second backward", "sm_100", 64, 2): Launch(64, 4, instructions=44.0, stack=64, shared=56320),
    ("second backward", "sm_90", 128, 2): Launch(
        128, 8, instructions=46.0, stack=1152, shared=192512
    ),
    ("second backward", "sm_90", 32, 4): Launch(
        64, 4, instructions=267.5, stack=1280, shared=77824
    ),
    ("first backward", "sm_80", 32, 2): Launch(
        64, 4, instructions=49.0, registers=232, shared=20480
    ),
    ("first backward", "sm_90", 32, 2): Launch(
        64, 4, instructions=45.0, registers=168, shared=20480
    ),
    ("first backward", "sm_100", 32, 2): Launch(
        64, 4, instructions=50.5, registers=208, shared=24576
    ),
    ("first backward", "sm_80", 64, 2): Launch(64, 4, instructions=46.0, stack=96, shared=36864),
    ("first backward", "sm_90", 64, 2): Launch(
        64, 4, instructions=38.5, registers=248, shared=38912
    ),
    ("first backward", "sm_100", 64, 2): Launch(
        64, 4, instructions=40.5, registers=168, shared=48128
    ),
    ("first backward", "sm_90", 128, 2): Launch(
        128, 8, instructions=43.0, stack=576, shared=110592
    ),
    ("first backward", "sm_90", 32, 4): Launch(64, 4, instructions=225.0, stack=1088, shared=49152),
    ("state", "sm_90", 32, 2): Launch(64, 4, instructions=45.0, registers=56, shared=6144),
    ("state", "sm_90", 64, 2): Launch(128, 8, instructions=60.0, registers=128, shared=16384),
    ("state", "sm_90", 128, 2): Launch(128, 8, instructions=44.5, registers=192, shared=32768),
    ("state", "sm_90", 256, 2): Launch(128, 8, instructions=34.0, stack=128, shared=132096),
    ("state", "sm_90", 32, 4): Launch(128, 8, instructions=77.5, registers=96, shared=16384),
    ("state", "sm_90", 64, 4): Launch(128, 8, instructions=88.0, registers=176, shared=32768),
    ("state", "sm_90", 128, 4): Launch(
        128, 8, depth=32, instructions=72.5, registers=224, shared=65536
    ),
    ("state", "sm_90", 256, 4): Launch(
        64, 4, depth=32, instructions=110.5, stack=352, shared=81920
    ),
    ("inner", "sm_90", 32, 2): Launch(64, 4, instructions=23.5, registers=48, shared=10240),
    ("inner", "sm_90", 64, 2): Launch(64, 4, instructions=22.0, registers=64, shared=24576),
    ("inner", "sm_90", 128, 2): Launch(128, 8, instructions=20.5, registers=112, shared=98304),
    ("inner", "sm_90", 256, 2): Launch(128, 8, instructions=20.5, registers=224, shared=229376),
    ("inner", "sm_90", 32, 4): Launch(64, 4, instructions=41.5, registers=96, shared=8192),
    ("inner", "sm_90", 64, 4): Launch(128, 8, instructions=39.0, registers=192, shared=32768),
    ("inner", "sm_90", 128, 4): Launch(128, 8, depth=32, instructions=51.5, shared=65536),
    ("inner", "sm_90", 256, 4): Launch(64, 4, depth=32, instructions=91.5, stack=352, shared=65536),
    ("outer", "sm_90", 32, 2): Launch(64, 4, instructions=24.0, registers=48, shared=6144),
    ("outer", "sm_90", 64, 2): Launch(64, 4, instructions=20.5, registers=64, shared=16384),
    ("outer", "sm_90", 128, 2): Launch(64, 4, instructions=16.5, registers=144, shared=50176),
    ("outer", "sm_90", 256, 2): Launch(64, 8, instructions=18.5, registers=112, shared=164864),
    ("outer", "sm_90", 32, 4): Launch(64, 4, instructions=35.5, registers=80, shared=8192),
    ("outer", "sm_90", 64, 4): Launch(64, 4, instructions=34.0, registers=128, shared=32768),
    ("outer", "sm_90", 128, 4): Launch(
        128, 8, depth=32, instructions=43.0, registers=192, shared=32768
    ),
    ("outer", "sm_90", 256, 4): Launch(64, 4, depth=32, instructions=81.0, stack=288, shared=65536),
    ("outer backward", "sm_90", 32, 2): Launch(64, 4, instructions=33.0, registers=64, shared=6144),
    ("outer backward", "sm_90", 64, 2): Launch(
        64, 4, instructions=29.5, registers=128, shared=16384
    ),
    ("outer backward", "sm_90", 128, 2): Launch(
        128, 8, instructions=27.5, registers=232, shared=65536
    ),
    ("outer backward", "sm_90", 256, 2): Launch(64, 8, instructions=47.5, stack=224, shared=164864),
    ("outer backward", "sm_90", 32, 4): Launch(64, 4, instructions=47.0, registers=80, shared=8192),
    ("outer backward", "sm_90", 64, 4): Launch(
        64, 4, instructions=45.5, registers=144, shared=32768
    ),
    ("outer backward", "sm_90", 128, 4): Launch(128, 8, depth=32, instructions=55.5, shared=65536),
    ("outer backward", "sm_90", 256, 4): Launch(
        64, 4, depth=32, instructions=98.0, stack=1024, shared=65536
    ),
    ("norm backward", "sm_90", 32, 2): Launch(64, 4, instructions=30.5, registers=48, shared=0),
    ("norm backward", "sm_90", 64, 2): Launch(64, 4, instructions=29.5, registers=80, shared=0),
    ("norm backward", "sm_90", 128, 2): Launch(64, 4, instructions=30.0, registers=168, shared=0),
    ("norm backward", "sm_90", 256, 2): Launch(64, 8, instructions=30.5, registers=168, shared=0),
    ("norm backward", "sm_90", 32, 4): Launch(64, 4, instructions=36.5, registers=64, shared=0),
    ("norm backward", "sm_90", 64, 4): Launch(64, 4, instructions=36.0, registers=112, shared=0),
    ("norm backward", "sm_90", 128, 4): Launch(64, 4, instructions=36.0, registers=248, shared=0),
    ("norm backward", "sm_90", 256, 4): Launch(
        64, 4, instructions=76.0, registers=32, stack=5120, shared=1024
    ),
    ("layer backward, inner", "sm_90", 32, 2): Launch(
        64, 4, instructions=12.5, registers=48, shared=6144
    ),
    ("layer backward, inner", "sm_90", 64, 2): Launch(
        64, 4, instructions=11.5, registers=64, shared=16384
    ),
    ("layer backward, inner", "sm_90", 128, 2): Launch(
        128, 8, instructions=10.0, registers=128, shared=65536
    ),
    ("layer backward, inner", "sm_90", 256, 2): Launch(
        128, 8, instructions=10.0, registers=240, shared=196608
    ),
    ("layer backward, inner", "sm_90", 32, 4): Launch(
        64, 4, instructions=29.5, registers=80, shared=8192
    ),
    ("layer backward, inner", "sm_90", 64, 4): Launch(
        64, 4, instructions=29.5, registers=128, shared=32768
    ),
    ("layer backward, inner", "sm_90", 128, 4): Launch(
        128, 8, depth=32, instructions=40.0, registers=200, shared=65536
    ),
    ("layer backward, inner", "sm_90", 256, 4): Launch(
        64, 4, depth=32, instructions=84.0, stack=288, shared=65536
    ),
    ("layer backward, states", "sm_90", 32, 2): Launch(
        64, 4, instructions=6.5, registers=48, shared=6144
    ),
    ("layer backward, states", "sm_90", 64, 2): Launch(
        64, 4, instructions=5.5, registers=80, shared=16384
    ),
    ("layer backward, states", "sm_90", 128, 2): Launch(
        128, 8, instructions=4.5, registers=96, shared=65536
    ),
    ("layer backward, states", "sm_90", 256, 2): Launch(
        128, 8, instructions=4.5, registers=192, shared=196608
    ),
    ("layer backward, states", "sm_90", 32, 4): Launch(
        64, 4, instructions=24.0, registers=80, shared=8192
    ),
    ("layer backward, states", "sm_90", 64, 4): Launch(
        64, 4, instructions=25.0, registers=128, shared=32768
    ),
    ("layer backward, states", "sm_90", 128, 4): Launch(
        128, 8, depth=32, instructions=35.0, registers=200, shared=65536
    ),
    ("layer backward, states", "sm_90", 256, 4): Launch(
        64, 4, depth=32, instructions=79.0, stack=320, shared=65536
    ),
    ("layer backward, first", "sm_90", 32, 2): Launch(
        64, 4, instructions=38.0, registers=64, shared=10240
    ),
    ("layer backward, first", "sm_90", 64, 2): Launch(
        128, 8, instructions=54.5, registers=128, shared=28672
    ),
    ("layer backward, first", "sm_90", 128, 2): Launch(
        128, 8, instructions=40.0, registers=248, shared=65536
    ),
    ("layer backward, first", "sm_90", 256, 2): Launch(
        64, 8, instructions=31.5, registers=232, shared=163840
    ),
    ("layer backward, first", "sm_90", 32, 4): Launch(
        64, 4, instructions=72.0, registers=120, shared=8192
    ),
    ("layer backward, first", "sm_90", 64, 4): Launch(
        64, 4, instructions=87.0, registers=192, shared=32768
    ),
    ("layer backward, first", "sm_90", 128, 4): Launch(
        128, 8, depth=32, instructions=71.5, stack=64, shared=65536
    ),
    ("layer backward, first", "sm_90", 256, 4): Launch(
        64, 4, depth=32, instructions=121.5, stack=1440, shared=65536
    ),
    ("weight", "sm_90", 32, 2): Launch(64, 4, instructions=10.5, registers=72, shared=4096),
    ("weight", "sm_90", 64, 2): Launch(64, 4, instructions=7.0, registers=96, shared=16384),
    ("weight", "sm_90", 128, 2): Launch(64, 4, instructions=6.0, registers=232, shared=32768),
    ("weight", "sm_90", 256, 2): Launch(64, 4, instructions=11.5, registers=232, shared=32768),
    ("weight", "sm_90", 32, 4): Launch(64, 4, instructions=51.5, registers=232, shared=8192),
    ("weight", "sm_90", 64, 4): Launch(64, 4, instructions=23.5, registers=208, shared=32768),
    ("weight", "sm_90", 128, 4): Launch(64, 8, instructions=27.0, stack=32, shared=65536),
    ("weight", "sm_90", 256, 4): Launch(64, 8, instructions=54.0, stack=32, shared=65536),
}
