"""Tables in request and response bodies: JSON columns or Arrow IPC streams.

Bodies are untrusted: what leaves this module is a fully validated table of plain columns. What the
columns mean is checked where panels are made.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any

import flatbuffers.table  # type: ignore[import-untyped]
import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field, ValidationError, WithJsonSchema

from causalmmm.findings import first_line
from causalmmm.serving.limits import Limits, check_count, request_error

if TYPE_CHECKING:
    import pandas as pd

JSON = "application/json"
ARROW = "application/vnd.apache.arrow.stream"

_CELL = {"anyOf": [{"type": "string"}, {"type": "number"}, {"type": "boolean"}, {"type": "null"}]}
# The cells of a column are checked by Arrow, all together.
Cells = Annotated[list[Any], WithJsonSchema({"type": "array", "items": _CELL})]
Columns = Annotated[dict[str, Cells], Field(min_length=1)]


class PanelBody(BaseModel):
    """Histories by column, with the column names of the model's schema."""

    model_config = ConfigDict(extra="forbid")

    panel: Columns


class PlannedBody(PanelBody):
    """Histories, and a plan for the steps after them; see ``validate_plan``."""

    plan: Columns | None = None


class ReturnsBody(PanelBody):
    """Histories, and groups of stores: a table of store and group."""

    groups: Columns | None = None


class BudgetBody(PlannedBody):
    """Histories, the current plan, bounds of the budget, and groups of stores for them; tables as
    ``causalmmm optimize`` takes them."""

    bounds: Columns | None = None
    groups: Columns | None = None


class AnswerBody(BaseModel):
    """The answer by column."""

    columns: dict[str, Cells]


def read_tables(
    body: bytes, kind: str, limits: Limits, form: type[PanelBody]
) -> dict[str, pa.Table]:
    """The tables of a form by name, those that are there, within the limits. Raises
    ``RequestError``."""
    if kind == ARROW:
        tables = _read_arrow(body, limits, list(form.model_fields))
    elif kind == JSON:
        # Every value, list and object has one of these before or after it: what is read takes
        # memory in proportion, however little of the body it is.
        check_count(sum(map(body.count, (b",", b"[", b"{"))), limits.values, "values")
        tables = _read_json(body, form)
    else:
        said = f"Unsupported content type '{kind[:80]}'" if kind else "The body has no content type"
        raise request_error(415, "unknown-format", f"{said}.", f"Send {JSON} or {ARROW}.")
    for table in tables.values():
        check_count(table.num_columns, limits.columns, "columns")
        longest = max(map(len, table.column_names), default=0)
        check_count(longest, limits.name, "letters in the name of a column")
    return tables


def write_table(frame: pd.DataFrame, kind: str) -> bytes:
    """A frame of answers as a body of the given media type."""
    if kind == ARROW:
        table = pa.Table.from_pandas(frame, preserve_index=False).replace_schema_metadata()
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, table.schema) as stream:
            stream.write_table(table)
        return bytes(sink.getvalue())
    columns = {str(name): _plain(frame[name]) for name in frame.columns}
    return json.dumps({"columns": columns}, allow_nan=False, separators=(",", ":")).encode()


def _plain(column: pd.Series[Any]) -> list[Any]:
    if column.dtype.kind == "M":
        days: list[Any] = column.dt.strftime("%Y-%m-%d").tolist()
        return days
    cells: list[Any] = column.tolist()
    if column.dtype.kind == "f" and column.hasnans:
        return [None if cell != cell else cell for cell in cells]
    return cells


def _read_json(body: bytes, form: type[PanelBody]) -> dict[str, pa.Table]:
    try:
        read = form.model_validate_json(body)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        key = ".".join(map(str, first["loc"])) or "the body"
        example = '{"panel": {"store": ["A"], "date": ["2024-01-31"], "tv": [12.5]}}'
        raise request_error(
            422, "malformed-json", f"{key}: {first['msg']}", f"Send columns, as in {example}."
        ) from None
    return {name: _table(columns, name) for name, columns in read if columns is not None}


def _table(columns: dict[str, list[Any]], what: str) -> pa.Table:
    arrays = {}
    for name, cells in columns.items():
        try:
            arrays[name] = pa.array(cells)
        except (pa.ArrowException, OverflowError, UnicodeError, TypeError, ValueError):
            raise request_error(
                422,
                "mixed-column",
                f"Column '{name}' of the {what} mixes kinds of values.",
                "Use one kind of value per column, and null for missing values.",
            ) from None
    lengths = {len(array) for array in arrays.values()}
    if len(lengths) > 1:
        raise request_error(
            422,
            "uneven-columns",
            f"The columns of the {what} have {min(lengths)} to {max(lengths)} values.",
            "Give every column one value per row.",
        )
    return _checked(pa.table(arrays), what)


def _read_arrow(body: bytes, limits: Limits, names: list[str]) -> dict[str, pa.Table]:
    """Streams of these tables one after another; later ones may be left out."""
    source, tables = pa.BufferReader(body), {}
    for name in names:
        tables[name] = _read_stream(source, len(body), limits, name)
        if source.tell() == len(body):
            return tables
    message = f"There are bytes after the Arrow stream of the {names[-1]}."
    raise request_error(422, "malformed-arrow", message)


def _read_stream(source: pa.BufferReader, size: int, limits: Limits, what: str) -> pa.Table:
    begin = source.tell()
    try:
        for message in pa.ipc.MessageReader.open_stream(source):
            if _is_compressed(message.metadata.to_pybytes()):
                raise request_error(
                    415,
                    "compressed-arrow",
                    f"The Arrow stream of the {what} is compressed.",
                    "Write it without compressed buffers.",
                )
        source.seek(begin)
        table = pa.ipc.open_stream(source).read_all()
        table.validate(full=True)
        names = list(table.schema.names)
    # what Arrow raises for foreign or damaged bytes
    except (pa.ArrowException, OSError, ValueError, TypeError, LookupError, MemoryError) as error:
        raise request_error(
            422,
            "malformed-arrow",
            f"The {what} is not a valid Arrow stream: {first_line(error)}",
            f"Write it as {ARROW} (in Python: pyarrow.ipc.new_stream).",
        ) from None
    # A row takes at least a byte, except in columns that are constant or null at no cost.
    if table.num_rows > size or len(names) > size:
        raise request_error(422, "malformed-arrow", f"The {what} has more rows than bytes.")
    check_count(table.num_rows * max(len(names), 1), limits.values, "values")
    return _checked(table, what)


def _is_compressed(metadata: bytes) -> bool:
    """Whether a message is a record batch with compressed buffers, whose real size is unknown.

    Reads the flatbuffer (Message.header -> RecordBatch.compression; a dictionary holds one more).
    """
    raw = bytearray(metadata)
    root = flatbuffers.table.Table(raw, int.from_bytes(raw[:4], "little"))
    kind, header = root.Offset(6), root.Offset(8)
    if not kind or not header:
        return False
    number = raw[root.Pos + kind]
    batch = flatbuffers.table.Table(raw, root.Indirect(root.Pos + header))
    if number == 2:  # DictionaryBatch.data
        data = batch.Offset(6)
        if not data:
            return False
        batch = flatbuffers.table.Table(raw, batch.Indirect(batch.Pos + data))
    return number in (2, 3) and batch.Offset(10) != 0


def _checked(table: pa.Table, what: str) -> pa.Table:
    for field in table.schema:
        kind = field.type.value_type if pa.types.is_dictionary(field.type) else field.type
        if not any(test(kind) for test in _PLAIN):
            raise request_error(
                422,
                "unknown-type",
                f"Column '{field.name}' of the {what} has the unsupported type {kind}.",
                "Send text, numbers, booleans or dates.",
            )
    return table


_PLAIN = (
    pa.types.is_string,
    pa.types.is_large_string,
    pa.types.is_string_view,
    pa.types.is_integer,
    pa.types.is_floating,
    pa.types.is_decimal,
    pa.types.is_boolean,
    pa.types.is_null,
    pa.types.is_date,
    pa.types.is_timestamp,
)
