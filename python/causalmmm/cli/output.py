"""Output files of the commands: CSV, Parquet, JSON, GraphML, DOT and pictures, by suffix or name.

Only formats; the commands decide on the content. Files appear whole or not at all.
"""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import typer

from causalmmm.cli.common import fresh, terminal
from causalmmm.files import atomic_file, write_atomically
from causalmmm.findings import counted, rounded

if TYPE_CHECKING:
    import networkx as nx
    import pandas as pd
    from matplotlib.figure import Figure

    from causalmmm.config.configuration import DataConfig

TABLES = ("csv", "parquet", "json")
GRAPHS = ("csv", "json", "graphml", "dot", "parquet")
PICTURES = ("png", "svg", "pdf")
_SHOWN_ROWS = 40  # of a table on a terminal
_FORMULA = r"[=@\t\r]|[+-](?![\d.]+$)"  # of a cell's beginning; signed numbers are none
_SUFFIXES = {"pq": "parquet", "gv": "dot", "xml": "graphml"}


def format_of(
    out: Path | None, option: str | None, supported: tuple[str, ...], *, json: bool = False
) -> str:
    """The format given by ``--format``, else by the suffix of the file, else CSV.

    ``json`` without a file means JSON on standard output.
    """
    name = "json" if json and out is None else option
    if name is None and out is not None and out.suffix:
        name = out.suffix[1:].lower()
    name = _SUFFIXES.get(name or "csv", name or "csv")
    if name not in supported:
        choices = f"{', '.join(supported[:-1])} or {supported[-1]}"
        raise typer.BadParameter(f"unsupported format '{name}'; choose {choices}")
    return name


def checked_format(
    out: Path | None, option: str | None, supported: tuple[str, ...], *, force: bool, json: bool
) -> str:
    """:func:`format_of`; a place that is taken is refused too, before there is work to lose."""
    kind = format_of(out, option, supported, json=json)
    if out is not None:
        fresh(out, force)
    return kind


def write_table(frame: pd.DataFrame, out: Path | None, kind: str, *, force: bool) -> None:
    """Write to the file, or to standard output, as ``csv``, ``parquet`` or ``json``; a terminal
    shows a CSV as a table."""
    if out is None and kind == "csv" and sys.stdout.isatty():
        return typer.echo(readable(frame))
    if kind != "parquet":
        return write_text(table_text(frame, kind), out, force=force)
    if out is None:
        raise typer.BadParameter("Parquet cannot go to standard output; add -o")
    with atomic_file(fresh(out, force)) as partial:
        return frame.to_parquet(partial, index=False)


def write_plan(
    frame: pd.DataFrame, out: Path, kind: str, written: DataConfig, *, force: bool
) -> None:
    """``write_table`` of what commands read again: a CSV is written as they read it."""
    if kind != "csv":
        return write_table(frame, out, kind, force=force)
    apart = ";" if written.decimal == "," else ","
    text = _neutral(frame).to_csv(
        index=False, lineterminator="\n", sep=apart, decimal=written.decimal
    )
    write_atomically(fresh(out, force), text.encode(written.encoding))


def write_text(text: str, out: Path | None, *, force: bool) -> None:
    """Write to the file, or to standard output."""
    if out is None:
        typer.echo(text, nl=False)
    else:
        write_atomically(fresh(out, force), text)


def write_answer(frame: pd.DataFrame, out: Path | None, kind: str, *, force: bool) -> None:
    """``write_table``, then report it."""
    write_table(frame, out, kind, force=force)
    wrote(out, rows=len(frame))


def readable(frame: pd.DataFrame) -> str:
    """The table in columns with four digits, its first rows where it has many."""
    shown = frame.head(_SHOWN_ROWS).to_string(index=False, float_format=rounded, na_rep="-")
    more = len(frame) - _SHOWN_ROWS
    return f"{shown}\n... and {counted(more, 'more row')}; -o FILE has all" if more > 0 else shown


def table_text(frame: pd.DataFrame, kind: str) -> str:
    if kind == "csv":
        text: str = _neutral(frame).to_csv(index=False, lineterminator="\n")
        return text
    dated = frame.copy()
    for name in dated.select_dtypes("datetime"):
        dated[name] = dated[name].dt.strftime("%Y-%m-%d")
    records: str = dated.to_json(orient="records", indent=1, force_ascii=False)
    return records + "\n"


def _neutral(frame: pd.DataFrame) -> pd.DataFrame:
    """The frame with names that a spreadsheet would run as formulas made text by a leading '."""
    texts = frame.select_dtypes(["object", "str", "string"])
    changed = {}
    for name, column in texts.items():
        formula = column.astype("str").str.match(_FORMULA, na=False)
        if formula.any():
            changed[name] = column.where(~formula, "'" + column.astype("str"))
    return frame.assign(**{str(name): column for name, column in changed.items()})


def graph_text(graph: nx.DiGraph[Any], kind: str) -> str:
    """One store's graph as ``json`` (nodes and edges), ``graphml`` or ``dot``."""
    import networkx as nx

    if kind == "json":
        return json_text(graph_record(graph))
    if kind == "dot":
        return _dot(graph)
    buffer = io.BytesIO()
    nx.write_graphml(graph, buffer, encoding="utf-8")
    return buffer.getvalue().decode()


def json_text(value: Any) -> str:
    return json.dumps(value, indent=1, ensure_ascii=False) + "\n"


def graph_record(graph: nx.DiGraph[Any]) -> dict[str, Any]:
    """A graph as JSON values."""
    nodes = [{"name": name, "role": role} for name, role in graph.nodes(data="role")]
    edges = [{"source": s, "target": t, **values} for s, t, values in graph.edges(data=True)]
    return {**graph.graph, "nodes": nodes, "edges": edges}


def write_graph(graph: nx.DiGraph[Any], out: Path | None, kind: str, *, force: bool) -> None:
    write_text(graph_text(graph, kind), out, force=force)


def file_name(store: str, kind: str) -> str:
    """A file name for a store, safe whatever characters its name contains."""
    return f"{quote(store, safe=' ')}.{kind}"


def one_store_for(kind: str, out: Path | None, store: list[str] | None) -> None:
    """Pictures need a file and exactly one store."""
    if kind in PICTURES and (out is None or not store or len(store) != 1):
        raise typer.BadParameter("a picture needs an output file (-o) and exactly one --store")


def write_picture(
    figure: Figure, out: Path | None, kind: str, *, force: bool, **facts: Any
) -> None:
    """Write to a file, then report it with ``facts``."""
    assert out is not None  # one_store_for
    with atomic_file(fresh(out, force)) as partial:
        figure.savefig(partial, format=kind)
    wrote(out, **facts)


def wrote(out: Path | None, **facts: Any) -> None:
    """Report the file that a command has written, as JSON with ``--json``."""
    if out is None:
        return
    if terminal.json:
        terminal.result({"ok": True, "out": str(out), **facts})
    else:
        terminal.say(f"wrote {out}")


def _dot(graph: nx.DiGraph[Any]) -> str:
    shapes = {"target": "doubleoctagon", "mediator": "ellipse", "organic": "box"}
    lines = [f"digraph {_quoted(str(graph.graph.get('store', '')))} {{", "  rankdir=LR;"]
    for name in graph:
        role = str(graph.nodes[name]["role"])
        lines.append(f"  {_quoted(name)} [role={role}, shape={shapes.get(role, 'box')}];")
    for source, target, values in graph.edges(data=True):
        facts = ", ".join(f"{key}={value:.6g}" for key, value in values.items())
        look = f'label="{values["probability"]:.2f}", penwidth={1 + 2 * values["probability"]:.2f}'
        lines.append(f"  {_quoted(source)} -> {_quoted(target)} [{look}, {facts}];")
    return "\n".join([*lines, "}", ""])


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", " ")
    return f'"{escaped}"'
