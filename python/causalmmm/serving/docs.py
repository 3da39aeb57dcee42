"""The page at /docs: the OpenAPI description as plain HTML, which loads nothing from elsewhere."""

from __future__ import annotations

from dataclasses import asdict
from html import escape
from typing import Any

from causalmmm.serving.limits import Limits

_STYLE = "body{font:16px/1.5 sans-serif;max-width:50em;margin:2em auto;padding:0 1em}" + (
    "pre{background:#f2f4f7;padding:.8em;overflow:auto}td,th{text-align:left;padding:0 1em 0 0}"
)
_EXAMPLE = """curl -s localhost:8000/predict?horizon=7 -H 'content-type: application/json' -d \\
  '{"panel": {"store": ["A", "A"], "date": ["2024-01-01", "2024-01-02"], "tv": [12.5, 0]}}'"""


def page(description: dict[str, Any], limits: Limits) -> str:
    """HTML for an OpenAPI description."""
    info = description["info"]
    parts = [
        f"<!doctype html><meta charset=utf-8><title>{escape(info['title'])}</title>",
        f"<style>{_STYLE}</style><h1>{escape(info['title'])} {escape(info['version'])}</h1>",
        f"<p>{escape(info['description'])}</p>",
        "<p>Tables are columns of JSON, with the column names of the model's schema, or Arrow "
        "streams (<code>application/vnd.apache.arrow.stream</code>). The machine-readable "
        "description is <a href=openapi.json>openapi.json</a>.</p>",
        f"<pre>{escape(_EXAMPLE)}</pre>",
    ]
    for path, methods in description["paths"].items():
        for method, question in methods.items():
            parts += _question(path, method, question)
    rows = [(name, f"{value:,g}") for name, value in asdict(limits).items()]
    return "\n".join([*parts, "<h2>Limits</h2>", _table(rows)])


def _question(path: str, method: str, question: dict[str, Any]) -> list[str]:
    text = escape(question.get("description", "")).replace("\n\n", "</p><p>")
    settings = [(p["name"], _kind(p["schema"])) for p in question.get("parameters", [])]
    answers = [(code, said["description"]) for code, said in question["responses"].items()]
    return [
        f"<h2>{method.upper()} {escape(path)}</h2><p>{text}</p>",
        f"<p>Settings:</p>{_table(settings)}" if settings else "",
        f"<p>Answers:</p>{_table(answers)}",
    ]


def _kind(schema: dict[str, Any]) -> str:
    """Type and bounds of a setting, as JSON Schema has them."""
    inner = next(s for s in schema.get("anyOf", [schema]) if s.get("type") != "null")
    if "enum" in inner:
        return " or ".join(inner["enum"])
    bounds = {k: v for k, v in inner.items() if k in ("minimum", "maximum", "maxItems")}
    told = ", ".join(f"{name} {value:g}" for name, value in bounds.items())
    return f"{inner.get('type', '')} {told}".strip()


def _table(rows: list[tuple[str, str]]) -> str:
    cells = "".join(
        f"<tr><th>{escape(name)}</th><td>{escape(value)}</td></tr>" for name, value in rows
    )
    return f"<table>{cells}</table>"
