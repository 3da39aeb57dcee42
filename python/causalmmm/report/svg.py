"""Pictures as SVG inside the page: readable without scripts, and in the colours of its theme."""

from __future__ import annotations

import io
import re
from html import escape
from typing import TYPE_CHECKING

from causalmmm.plots import style

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Colours of pictures -> custom properties of the page's style sheet.
_THEME = {
    style.INK: "ink",
    style.PALE: "pale",
    style.GRID: "grid",
    style.TARGET: "target",
    style.NEGATIVE: "bad",
    style.BASELINE_COLOUR: "base",
    style.OWN_PAST_COLOUR: "past",
    style.OTHERS_COLOUR: "others",
    "#eef1f4": "shade",
    "#ffffff": "card",
    **{colour: f"s{k}" for k, colour in enumerate(style.PALETTE)},
}
_COLOUR = re.compile("|".join(map(re.escape, _THEME)))


def svg_of(figure: Figure, name: str) -> str:
    """The figure as an ``<svg>`` element; ``name`` keeps its ids apart from those of others.

    Its headline becomes its accessible name.
    """
    import matplotlib as mpl

    said = " ".join(text.get_text() for text in figure.texts[:2])
    buffer = io.StringIO()
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": name}):
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.S)
    text = re.sub(r' (width|height)="[\d.]+pt"', "", text, count=2)
    text = re.sub(r"<!--.*?-->\s*", "", text, flags=re.S)
    text = re.sub(r"<[^>]*>", _shortened, text)
    text = re.sub(r"\n\s*", "\n", text)
    text = _only_used_ids(text, name)
    text = _COLOUR.sub(lambda found: f"var(--{_THEME[found.group()]})", text)
    return text.replace("<svg", f'<svg role="img" aria-label="{escape(said, quote=True)}"', 1)


def _shortened(tag: re.Match[str]) -> str:
    """A tag whose places are in hundredths of a point, which are enough; numbers that are text,
    between tags, stay as they are."""
    return re.sub(r"(\d+\.\d\d)\d+", r"\1", tag.group())


def _only_used_ids(text: str, name: str) -> str:
    """Without ids that nothing refers to; the others begin with ``name``."""
    used = set(re.findall(r'(?:url\(|href=")#([^)"]+)', text))

    def kept(found: re.Match[str]) -> str:
        return f' id="{name}-{found[1]}"' if found[1] in used else ""

    text = re.sub(r' id="([^"]*)"', kept, text)
    return re.sub(r'(url\(|href=")#', rf"\1#{name}-", text)
