"""Tables and graphs as ordinary files: CSV, Parquet, JSON, GraphML, DOT, by suffix or by name.

Only formats; what is in them is decided by the commands.
"""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import typer

from causalmmm.cli.common import fresh, terminal

if TYPE_CHECKING:
    import networkx as nx
    import pandas as pd
    from matplotlib.figure import Figure

TABLES = ("csv", "parquet", "json")
GRAPHS = ("csv", "json", "graphml", "dot", "parquet")
PICTURES = ("png", "svg", "pdf")
_SUFFIXES = {"pq": "parquet", "gv": "dot", "xml": "graphml"}


def format_of(
    out: Path | None, named: str | None, known: tuple[str, ...], *, json: bool = False
) -> str:
    """The format that was named, else that of the suffix, else CSV; refuses what is not known.

    ``json`` without a file asks for JSON on standard output.
    """
    chosen = "json" if json and out is None else named
    if chosen is None and out is not None and out.suffix:
        chosen = out.suffix[1:].lower()
    chosen = _SUFFIXES.get(chosen or "csv", chosen or "csv")
    if chosen not in known:
        raise typer.BadParameter(f"'{chosen}' is no format here; known are {', '.join(known)}")
    return chosen


def write_table(frame: pd.DataFrame, out: Path | None, kind: str, *, force: bool) -> None:
    """To the file, or to standard output, as ``csv``, ``parquet`` or ``json``."""
    if kind != "parquet":
        return write_text(table_text(frame, kind), out, force=force)
    if out is None:
        raise typer.BadParameter("Parquet needs a file: add -o")
    fresh(out, force)
    out.parent.mkdir(parents=True, exist_ok=True)
    return frame.to_parquet(out, index=False)


def write_text(text: str, out: Path | None, *, force: bool) -> None:
    """To the file, or to standard output."""
    if out is None:
        typer.echo(text, nl=False)
        return
    fresh(out, force)
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(text, encoding="utf-8")


def write_answer(frame: pd.DataFrame, out: Path | None, kind: str, *, force: bool) -> None:
    """``write_table``, and say so."""
    write_table(frame, out, kind, force=force)
    wrote(out, rows=len(frame))


def table_text(frame: pd.DataFrame, kind: str) -> str:
    if kind == "csv":
        text: str = frame.to_csv(index=False, lineterminator="\n")
        return text
    dated = frame.copy()
    for name in dated.select_dtypes("datetime"):
        dated[name] = dated[name].dt.strftime("%Y-%m-%d")
    records: str = dated.to_json(orient="records", indent=1, force_ascii=False)
    return records + "\n"


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
    """Plain JSON values of a graph."""
    nodes = [{"name": name, "role": role} for name, role in graph.nodes(data="role")]
    edges = [{"source": s, "target": t, **values} for s, t, values in graph.edges(data=True)]
    return {**graph.graph, "nodes": nodes, "edges": edges}


def write_graph(graph: nx.DiGraph[Any], out: Path | None, kind: str, *, force: bool) -> None:
    write_text(graph_text(graph, kind), out, force=force)


def file_name(store: str, kind: str) -> str:
    """A file name for a store whatever its name holds."""
    return f"{quote(store, safe=' ')}.{kind}"


def one_store_for(kind: str, out: Path | None, store: list[str] | None) -> None:
    """Refuse a picture of no store or several, or without a file."""
    if kind in PICTURES and (out is None or not store or len(store) != 1):
        raise typer.BadParameter("a picture needs a file, -o, and one --store")


def write_picture(figure: Figure, out: Path | None, *, force: bool, **facts: Any) -> None:
    """To a file, and say so with ``facts``."""
    assert out is not None  # one_store_for
    fresh(out, force)
    out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(out)
    wrote(out, **facts)


def wrote(out: Path | None, **facts: Any) -> None:
    """Say, or with ``--json`` print, what a command has written."""
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
