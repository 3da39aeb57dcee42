"""The page: one HTML file with everything in it, written as it is made."""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from causalmmm.extras import needing
from causalmmm.files import atomic_file
from causalmmm.findings import counted
from causalmmm.plots.style import PALETTE, series_colours
from causalmmm.report.cards import cards_of, store_grid
from causalmmm.report.records import RETURNS
from causalmmm.report.sentences import summary

if TYPE_CHECKING:
    from causalmmm.report.gather import Tables

_CHUNK = 3 * 65536  # bytes, a multiple of three: base64 of chunks joins without padding


def write_page(tables: Tables, out: Path, title: str) -> Path:
    """Write the report of the tables; the file appears whole or not at all.

    Needs jinja2 and plotly (``pip install 'causalmmm[report]'``).
    """
    check_packages()
    import jinja2

    folder = files("causalmmm.report")
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(lambda name: (folder / name).read_text(encoding="utf-8")),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["counted"] = counted
    stream = environment.get_template("page.html.j2").stream(
        title=title,
        facts=tables.facts,
        summary=list(summary(tables)),
        cards=list(cards_of(tables)),
        stores=store_grid(tables),
        style=(folder / "page.css").read_text(encoding="utf-8"),
        script=(folder / "page.js").read_text(encoding="utf-8"),
        setting=_script_json(_setting(tables)),
        records=_base64(tables.records.read_bytes()),
        plotly=_base64(gzip.compress(_plotly(), 9, mtime=0)),
    )
    stream.enable_buffering(64)
    with atomic_file(out) as partial, partial.open("w", encoding="utf-8") as file:
        for piece in stream:
            file.write(piece)
    return out


def check_packages() -> None:
    """``ImportError`` naming the extra, where a package that the page needs is missing.

    >>> check_packages()
    """
    with needing("a report"):
        import jinja2  # noqa: F401
        import matplotlib  # noqa: F401
        import plotly  # noqa: F401  its JavaScript goes into the page


def _setting(tables: Tables) -> dict[str, Any]:
    """What the script needs to know besides the records."""
    facts = tables.facts
    names = tables.frames["parts"]["component"].drop_duplicates().tolist()
    roles = zip(facts["nodes"], facts["roles"], strict=True)
    return {
        "nodes": facts["nodes"],
        "roles": facts["roles"],
        "target": facts["target"],
        "step": facts["step"],
        "span": facts["span"],
        "dates": facts["spans"],
        "ahead": tables.frames["forecast"]["date"].dt.strftime("%Y-%m-%d").tolist(),
        "planned": facts["planned"],
        "components": names[:-1],
        "colours": [_themed(hex) for hex in series_colours(facts["nodes"]).values()],
        "curves": [name for name, role in roles if role in ("channel", "organic")],
        "measured": facts["measured"],
        "paid": [*facts["measured"], "all channels"],
        "returns": list(RETURNS),
        "stores": facts["stores"],
    }


def _themed(colour: str) -> str:
    """The custom property of a colour of the palette; lighter shades of it have none."""
    return f"--s{PALETTE.index(colour)}" if colour in PALETTE else colour


def _script_json(value: Any) -> str:
    """JSON that cannot end the script element it stands in."""
    return json.dumps(value, ensure_ascii=False).replace("<", "\\u003c")


def _base64(content: bytes) -> Iterator[str]:
    for begin in range(0, len(content), _CHUNK):
        yield base64.b64encode(content[begin : begin + _CHUNK]).decode()


def _plotly() -> bytes:
    return (files("plotly") / "package_data" / "plotly.min.js").read_bytes()
