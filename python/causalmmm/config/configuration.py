"""``Config``: one YAML file that says where the data are, what the columns mean, how to model.

Reads and checks the file; the meaning of the model's parameters belongs to the estimator.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from causalmmm.data.readers import Readable
from causalmmm.data.schema import Schema, schema_findings
from causalmmm.findings import ConfigError, Finding, PanelError, closest, first_few

SECTIONS = ("schema", "data", "model")

Lines = dict[tuple[str, ...], int]


class DataConfig(BaseModel):
    """Where the panel is, and how its missing values are treated.

    path       CSV or Parquet file; relative to the folder of the YAML file.
    nan        "error", "zero" or "interpolate", for all roles or per role.
    min_steps  fewest steps that a store may have.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    path: Path | None = None
    nan: str | dict[str, str | int] | None = None
    min_steps: int = 8


@dataclass(frozen=True)
class Config:
    """The three sections of a configuration file, checked.

    schema  None when the file leaves the roles of the columns to be guessed.
    data    see ``DataConfig``; its path is absolute or relative to the working folder.
    model   parameters of ``CausalMMM`` by name.
    """

    schema: Schema | None = None
    data: DataConfig = field(default_factory=DataConfig)
    model: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def read(
        cls,
        path: str | Path,
        overrides: Iterable[str] = (),
        *,
        model_keys: Collection[str] | None = None,
    ) -> Config:
        """Read a YAML file, then apply overrides such as ``model.epochs=5`` in turn.

        The value of an override is read as YAML, so that 5 is a number and [80, 95] a list.
        ``model_keys``, where given, are the only keys that the section ``model`` may have.
        Raises ``ConfigError``, whose report names the line and the key of everything wrong.
        """
        path = Path(path)
        if not path.is_file():
            raise _refuse("no-such-file", f"There is no file '{path}'.", "Check the path.")
        try:
            text = path.read_text(encoding="utf-8-sig")
        except UnicodeDecodeError:
            message = f"'{path}' is not UTF-8 text."
            raise _refuse("encoding", message, "Save the file in UTF-8.") from None
        return cls.parse(text, overrides, model_keys=model_keys, folder=path.parent)

    @classmethod
    def parse(
        cls,
        text: str = "",
        overrides: Iterable[str] = (),
        *,
        model_keys: Collection[str] | None = None,
        folder: Path | None = None,
    ) -> Config:
        """``read`` for text; relative data paths are taken from ``folder``."""
        tree, lines = _load(text)
        for override in overrides:
            _apply(tree, override)
        findings = _unknown_keys(tree, SECTIONS, (), lines)
        sections = {}
        for name in SECTIONS:
            value = tree.get(name)
            if value is not None and not isinstance(value, dict):
                message = f"Section '{name}' holds {value!r}, not keys with values"
                findings.append(
                    _located("invalid-value", message, "Indent its keys.", (name,), lines)
                )
                value = None
            sections[name] = value
        schema = _schema(sections["schema"], lines, findings)
        data = _data(sections["data"] or {}, folder, lines, findings)
        model = {str(key): value for key, value in (sections["model"] or {}).items()}
        if model_keys is not None:
            findings += _unknown_keys(model, model_keys, ("model",), lines)
        if findings:
            raise ConfigError(findings)
        return cls(schema, data, model)

    @staticmethod
    def template(data: Readable) -> str:
        """A commented YAML text for a table or a file: every guess with its reason.

        ``Config.parse`` reads it back. Raises ``PanelError`` when a date, a target or channels
        cannot be guessed.
        """
        from causalmmm.config.template import template

        return template(data)


def _schema(section: dict[str, Any] | None, lines: Lines, findings: list[Finding]) -> Schema | None:
    if section is None:
        return None
    try:
        return Schema.model_validate(section)
    except ValidationError as error:
        places = [("schema", *map(str, item["loc"])) for item in error.errors()]
        for found, place in zip(schema_findings(error), places, strict=True):
            message = found.message.rstrip(".")
            findings.append(_located(found.code, message, found.remedy, place, lines, found.column))
        return None


def _data(
    section: dict[str, Any], folder: Path | None, lines: Lines, findings: list[Finding]
) -> DataConfig:
    from causalmmm.data.validation import check_policies

    data = DataConfig()
    try:
        data = DataConfig.model_validate(section)
    except ValidationError as error:
        for item in error.errors():
            place = ("data", *map(str, item["loc"]))[:2]
            if item["type"] == "extra_forbidden":
                findings.append(_unknown(place, list(DataConfig.model_fields), lines))
            elif place != ("data", "nan"):  # said below, in its own words
                message = f"Key '{'.'.join(place)}': {item['msg']}"
                findings.append(_located("invalid-value", message, "Correct it.", place, lines))
    try:
        check_policies(section.get("nan"))
    except PanelError as error:
        for found in error.report:
            place = ("data", "nan", found.column or "")
            message = found.message.rstrip(".")
            findings.append(_located(found.code, message, found.remedy, place, lines))
    if data.path is not None and folder is not None:
        return data.model_copy(update={"path": folder / data.path})
    return data


def _load(text: str) -> tuple[dict[str, Any], Lines]:
    """The tree of a YAML text, and the line of each key; refuses what is no mapping."""
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        tree = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"line {mark.line + 1}: " if mark is not None else ""
        problem = getattr(error, "problem", None) or str(error).splitlines()[0]
        raise _refuse(
            "yaml-syntax",
            f"The configuration is not YAML, {where}{problem}.",
            "Check colons, quotes and the indentation, which must be spaces.",
        ) from None
    if tree is None:
        return {}, {}
    if not isinstance(tree, dict):
        message = "The configuration is not a list of sections."
        raise _refuse("yaml-syntax", message, f"Write the sections {', '.join(SECTIONS)}.")
    lines: Lines = {}
    repeated: list[Finding] = []
    _collect(node, (), lines, repeated)
    if repeated:
        raise ConfigError(repeated)
    return tree, lines


def _collect(node: Any, place: tuple[str, ...], lines: Lines, repeated: list[Finding]) -> None:
    if not isinstance(node, yaml.MappingNode):
        return
    for key, value in node.value:
        inner = (*place, str(key.value))
        line = key.start_mark.line + 1
        if inner in lines:
            message = f"Key '{'.'.join(inner)}' is given twice, first on line {lines[inner]}"
            found = _located("repeated-key", message, "Keep one.", inner, {inner: line})
            repeated.append(found)
        lines[inner] = line
        _collect(value, inner, lines, repeated)


def _apply(tree: dict[str, Any], override: str) -> None:
    """Set one dotted key; sections on the way are made when they are not there."""
    key, equals, text = override.partition("=")
    parts = key.strip().split(".")
    if not equals or not all(parts):
        raise _refuse(
            "bad-override",
            f"'{override}' does not set anything.",
            "Write section.key=value, e.g. model.epochs=5.",
        )
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        message = f"The value of '{override}' is not YAML."
        raise _refuse("bad-override", message, "Put text in quotes.") from None
    for part in parts[:-1]:
        below = tree.setdefault(part, {})
        if below is None:
            below = tree[part] = {}
        if not isinstance(below, dict):
            message = f"'{override}' sets a key below '{part}', which holds {below!r}."
            raise _refuse("bad-override", message, f"Set '{part}' itself.")
        tree = below
    tree[parts[-1]] = value


def _unknown_keys(
    section: Mapping[str, Any], known: Collection[str], place: tuple[str, ...], lines: Lines
) -> list[Finding]:
    return [_unknown((*place, str(key)), known, lines) for key in section if key not in known]


def _unknown(place: tuple[str, ...], known: Collection[str], lines: Lines) -> Finding:
    message = f"There is no key '{'.'.join(place)}'"
    remedy = f"{closest(place[-1], known)}Known keys: {first_few(known, 40)}."
    return _located("unknown-key", message, remedy, place, lines)


def _located(
    code: str,
    message: str,
    remedy: str,
    place: tuple[str, ...],
    lines: Lines,
    column: str | None = None,
) -> Finding:
    """A finding whose message ends with the line of its key, or of the nearest key above it."""
    near = next((place[:n] for n in range(len(place), 0, -1) if place[:n] in lines), None)
    where = f" (line {lines[near]})" if near else ""
    if code == "unknown-key" and near != place:
        where = " (set by an override)"
    return Finding("error", code, f"{message}{where}.", remedy, column=column or ".".join(place))


def _refuse(code: str, message: str, remedy: str) -> ConfigError:
    return ConfigError([Finding("error", code, message, remedy)])
