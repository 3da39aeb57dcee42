"""What a model was fitted on, in a few facts and one digest of the panel."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import numpy as np

from causalmmm.data.panel import Panel


def training_record(panel: Panel) -> dict[str, Any]:
    """What a model was fitted on, in a few words and one fingerprint, as plain JSON values."""
    data = panel.data
    return {
        "stores": panel.n_stores,
        "rows": len(data.values),
        "series": len(panel.nodes),
        "freq": data.freq,
        "first": str(data.grid[0].astype("datetime64[D]")),
        "last": str(data.grid[-1].astype("datetime64[D]")),
        "fingerprint": fingerprint(panel),
    }


def fingerprint(panel: Panel) -> str:
    """Hexadecimal digest of names, dates and numbers of a panel: equal panels, equal digests."""
    data = panel.data
    digest = hashlib.blake2b(digest_size=16)
    names = [panel.nodes, panel.control_names, panel.context_names, panel.stores.tolist()]
    digest.update(json.dumps([*names, data.freq]).encode())
    grid = data.grid.astype("datetime64[D]").astype(np.int64)
    for array in (data.values, data.offsets, data.start, grid, data.controls, data.context):
        digest.update(str(array.shape).encode())
        digest.update(np.ascontiguousarray(array).data.cast("B") if array.size else b"")
    return digest.hexdigest()
