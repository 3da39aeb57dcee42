"""Forecasts and graphs from Arrow to Arrow, for any engine that hands out tables.

What a model answers lives in ``causalmmm.runtime``; files and processes in ``dataset``. No torch.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import pyarrow as pa

from causalmmm.data.panel import Panel
from causalmmm.data.sources import Source
from causalmmm.runtime import OnnxModel

What = Literal["forecasts", "graphs"]
LEVELS = (80, 95)
_BATCH_STORES = 512


def score(
    table: pa.Table, model: OnnxModel, *, what: What = "forecasts", horizon: int | None = None
) -> pa.Table:
    """Forecasts or graphs of the stores in a table, which must contain their whole histories.

    table    columns as in the model's schema, one row per store and date; may be empty.
    what     "forecasts": store, date, series, mean, lower_80, upper_80, lower_95, upper_95;
             "graphs": store, source, target, probability, effect, lower, upper.
    horizon  steps to forecast; default: the model's.

    The columns are always those of ``answer_schema``. Raises ``PanelError``.

    >>> import pyarrow as pa
    >>> from causalmmm.runtime import OnnxModel
    >>> table = pa.Table.from_pandas(daily.to_frame(), preserve_index=False)
    >>> score(table, OnnxModel("model.onnx"), what="graphs").num_rows > 0
    True
    """
    steps = steps_ahead(model, what, horizon)
    if not table.num_rows:
        return answer_schema(what).empty_table()
    return pa.concat_tables(answers(table, model, what, steps))


def answer_schema(what: What) -> pa.Schema:
    """Columns and types of the answers; engines such as Spark need them in advance.

    >>> answer_schema("graphs").names[:3]
    ['store', 'source', 'target']
    """
    if what == "graphs":
        text, numbers = ["store", "source", "target"], ["probability", "effect", "lower", "upper"]
    else:
        text = ["store", "date", "series"]
        numbers = ["mean", *(f"{side}_{level}" for level in LEVELS for side in ("lower", "upper"))]
    return pa.schema(
        [(name, pa.date32() if name == "date" else pa.string()) for name in text]
        + [(name, pa.float32()) for name in numbers]
    )


def answers(
    table: pa.Table | Source | Panel, model: OnnxModel, what: What, steps: int | None
) -> Iterator[pa.Table]:
    """Answers in panel order, in batches of stores, so that memory does not grow with them."""
    panel = model.panel(table)
    schema = answer_schema(what)
    for begin in range(0, panel.n_stores, _BATCH_STORES):
        batch = panel.select(panel.stores[begin : begin + _BATCH_STORES].tolist())
        if what == "graphs":
            frame = model.graphs(batch)
        else:
            frame = model.predict(batch, steps, level=LEVELS)
        yield pa.Table.from_pandas(frame, schema, preserve_index=False).replace_schema_metadata()


def steps_ahead(model: OnnxModel, what: What, horizon: int | None) -> int | None:
    """The checked horizon of forecasts; None for graphs."""
    if what not in ("forecasts", "graphs"):
        raise ValueError(f"what must be 'forecasts' or 'graphs', got {what!r}")
    if what == "graphs":
        if horizon is not None:
            raise ValueError("graphs have no horizon")
        return None
    steps = model.horizon if horizon is None else horizon
    if not 1 <= steps <= model.max_horizon:
        raise ValueError(f"horizon must be 1 to {model.max_horizon} steps, got {steps}")
    return steps
