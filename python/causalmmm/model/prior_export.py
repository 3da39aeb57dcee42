"""The pretrained prior as one ONNX file of its own, for tables with one set of columns.

The graph itself is made in ``causalmmm.engine.export``.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

from causalmmm.data.panel import Panel
from causalmmm.engine.prior import shipped_prior
from causalmmm.engine.spec.calendar import calendar_spec
from causalmmm.extras import needing, package_version
from causalmmm.model.onnx_export import write_sealed
from causalmmm.model.pretrained import WINDOW, read_panel
from causalmmm.model.priors import Pair, edge_probability


def export_prior(
    panel: Panel,
    path: str | Path,
    *,
    edge_prior: Mapping[Pair, float] | None = None,
    forbidden: Sequence[Pair] = (),
    required: Sequence[Pair] = (),
    signed: Sequence[Pair] = (),
    opset: int = 18,
) -> Path:
    """Write what :func:`causalmmm.pretrained_graphs` computes for panels like this one.

    Columns, roles, calendar, controls and what is known of edges are those of ``panel``; stores are
    read as members of it (one store: each alone). Inputs and outputs are in ``docs/onnx.md``.

    >>> from causalmmm import simulate
    >>> export_prior(simulate("paper-small", stores=1)[0], "prior.onnx")  # doctest: +SKIP
    """
    with needing("export"):
        from causalmmm.engine.export.build import build_prior
    from causalmmm.engine.export.calendar import known_dates

    prior = shipped_prior()
    spec = calendar_spec(panel.data, None, None)
    graphs = read_panel(panel, prior, signed, spec).graphs
    usual = graphs.base.sigmoid()
    given = edge_probability(panel.nodes, usual, edge_prior, forbidden, required)
    proto = build_prior(graphs, spec, given, window=WINDOW, opset=opset)
    about = {
        "kind": "causalmmm pretrained prior",
        "version": package_version(),
        "prior": prior.record["sha256"],
        "nodes": list(panel.nodes),
        "roles": list(panel.data.roles),
        "controls": len(spec.control_mean),
        "calendar": dataclasses.asdict(spec),
        "dates": known_dates(spec),
        "window": WINDOW,
        "before": given.tolist(),
    }
    return write_sealed(proto, about, path)
