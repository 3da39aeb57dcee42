"""``Config``: one YAML file with the data's path, the roles of its columns and model settings.

Reads and checks the file; what the model's parameters mean belongs to the estimator.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from causalmmm.data.readers import Readable
from causalmmm.data.schema import Schema, schema_findings
from causalmmm.data.table_file import TableFile, wrong_settings
from causalmmm.files import require_file
from causalmmm.findings import (
    ConfigError,
    Finding,
    PanelError,
    RefusedInput,
    closest,
    first_few,
    refusal,
)

_MAX_LETTERS, _MAX_DEPTH = 5_000_000, 20
SECTIONS = ("schema", "data", "model")
_WRITTEN = ("decimal", "thousands", "encoding")

Key = tuple[str, ...]  # ("model", "epochs") for model.epochs
Lines = dict[Key, int]


class DataConfig(BaseModel):
    """Where the panel is, how it is written, and what becomes of what is missing.

    path           CSV, Parquet or Excel file, zip archive or folder of them, relative to the folder
                   of the YAML file.
    decimal        "." or ",", the sign before decimals in text.
    thousands      "", ",", ".", "'" or " ", the sign between thousands in text.
    encoding       of CSV files: utf-8, cp1252, ...
    sheet          of Excel files; None: the first that is not empty.
    nan            "error", "zero", "interpolate" or "carry", for all roles or per role.
    gaps           "error", "zero", "carry" or "leave-out": steps that have no row.
    business_days  whether Saturdays and Sundays are missing because nothing happens on them.
    min_steps      minimum number of steps per store.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    path: Path | None = None
    decimal: str = "."
    thousands: str = ""
    encoding: str = "utf-8"
    sheet: str | None = None
    nan: str | dict[str, str | int] | None = None
    gaps: Literal["error", "zero", "carry", "leave-out"] = "error"
    business_days: bool = False
    min_steps: int = 8

    @property
    def table(self) -> TableFile:
        """The path with how it is written."""
        assert self.path is not None
        return TableFile(self.path, self.decimal, self.thousands, self.encoding, self.sheet)

    def file(self, path: Path) -> TableFile:
        """A further table that goes with the panel, such as a plan: written as the panel is."""
        return self.model_copy(update={"path": path, "sheet": None}).table


@dataclass(frozen=True)
class Config:
    """The three sections of a configuration file, checked.

    schema  None if the roles of the columns are to be guessed.
    data    see ``DataConfig``; the path is absolute or relative to the working directory.
    model   parameters of ``CausalMMM`` by name.

    >>> config = Config.parse("schema: {date: day, target: sales, channels: [tv]}")
    >>> config.schema.channels["tv"].spend
    'tv'
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
        """Read a YAML file, then apply overrides such as ``model.epochs=5`` in order.

        overrides   their values are parsed as YAML: 5 is a number, [80, 95] a list.
        model_keys  the keys that section ``model`` may have; None allows any.

        Raises ``ConfigError``, whose report gives line and key of every error.
        """
        path = Path(path)
        require_file(path, kind=ConfigError)
        try:
            text = path.read_text(encoding="utf-8-sig")
        except UnicodeDecodeError:
            message = f"'{path}' is not UTF-8 text."
            raise _refusal("encoding", message, "Save the file as UTF-8.") from None
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
        """``read`` for text; relative data paths refer to ``folder``."""
        tree, lines = _load(text)
        for override in overrides:
            _apply(tree, override)
        findings = _unknown_keys(tree, SECTIONS, (), lines)
        sections = {name: _section(tree, name, lines, findings) for name in SECTIONS}
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
        """A commented YAML text for a table or a file, with the reason of every guess.

        ``Config.parse`` reads it back. Raises ``PanelError`` if no date, target or channel is
        recognisable.
        """
        from causalmmm.config.template import template

        return template(data)


def _section(
    tree: dict[str, Any], name: str, lines: Lines, findings: list[Finding]
) -> dict[str, Any] | None:
    value = tree.get(name)
    if value is None or isinstance(value, dict):
        return value
    message = f"Section '{name}' is {value!r}, but must contain keys with values"
    findings.append(_located("invalid-value", message, "Indent its keys.", (name,), lines))
    return None


def _schema(section: dict[str, Any] | None, lines: Lines, findings: list[Finding]) -> Schema | None:
    if section is None:
        return None
    try:
        return Schema.model_validate(section)
    except ValidationError as error:
        keys = [("schema", *map(str, item["loc"])) for item in error.errors()]
        for finding, key in zip(schema_findings(error), keys, strict=True):
            message = finding.message.rstrip(".")
            findings.append(
                _located(finding.code, message, finding.remedy, key, lines, finding.column)
            )
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
            key = ("data", *map(str, item["loc"]))[:2]
            if item["type"] == "extra_forbidden":
                findings.append(_unknown(key, list(DataConfig.model_fields), lines))
            elif key != ("data", "nan"):  # check_policies has better messages
                message = f"Key '{'.'.join(key)}': {item['msg']}"
                findings.append(
                    _located("invalid-value", message, "Correct the value.", key, lines)
                )
    written = {name: section.get(name, getattr(data, name)) for name in _WRITTEN}
    if all(isinstance(value, str) for value in written.values()):
        for finding in wrong_settings(**written):
            findings.append(_moved(finding, ("data", finding.column or ""), lines))
    try:
        check_policies(section.get("nan"))
    except PanelError as error:
        for finding in error.report:
            findings.append(_moved(finding, ("data", "nan", finding.column or ""), lines))
    if data.path is not None and folder is not None:
        return data.model_copy(update={"path": folder / data.path})
    return data


def _load(text: str) -> tuple[dict[str, Any], Lines]:
    """The parsed YAML text, and the line of each key; refuses anything but a mapping."""
    try:
        node, tree = _parsed(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"line {mark.line + 1}: " if mark is not None else ""
        problem = getattr(error, "problem", None) or str(error).splitlines()[0]
        raise _refusal(
            "yaml-syntax",
            f"The configuration is not valid YAML, {where}{problem}.",
            "Check colons, quotes and indentation, which must be spaces.",
        ) from None
    if tree is None:
        return {}, {}
    if not isinstance(tree, dict):
        message = "The configuration does not consist of sections."
        raise _refusal(
            "yaml-syntax", message, f"Write the sections {', '.join(SECTIONS)}, each with its keys."
        )
    lines: Lines = {}
    findings: list[Finding] = []
    _collect_lines(node, (), lines, findings)
    if findings:
        raise ConfigError(findings)
    return tree, lines


def _parsed(text: str) -> tuple[yaml.Node | None, Any]:
    """Nodes and values of a YAML text of ordinary size and depth.

    Anchors are refused: a few lines of them stand for more values than there is memory.
    """
    if len(text) > _MAX_LETTERS:
        message = f"The configuration has {len(text)} letters, more than {_MAX_LETTERS}."
        raise _refusal("yaml-size", message, "Check that this is the file you meant.")
    depth = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        depth += isinstance(event, yaml.CollectionStartEvent)
        depth -= isinstance(event, yaml.CollectionEndEvent)
        line = event.start_mark.line + 1 if event.start_mark is not None else 1
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None) is not None:
            message = f"The configuration has an anchor (& or *) on line {line}."
            raise _refusal("yaml-anchor", message, "Write the values out.")
        if depth > _MAX_DEPTH:
            message = f"The configuration is nested more than {_MAX_DEPTH} deep on line {line}."
            raise _refusal("yaml-depth", message, "Write sections, each with its keys.")
    return yaml.compose(text, Loader=yaml.SafeLoader), yaml.safe_load(text)


def _collect_lines(node: Any, parent: Key, lines: Lines, findings: list[Finding]) -> None:
    """The line of every key below ``parent``, and a finding for each that is repeated."""
    if not isinstance(node, yaml.MappingNode):
        return
    for key_node, value in node.value:
        key = (*parent, str(key_node.value))
        line = key_node.start_mark.line + 1
        if key in lines:
            message = f"Key '{'.'.join(key)}' occurs twice, first on line {lines[key]}"
            findings.append(_located("repeated-key", message, "Keep only one.", key, {key: line}))
        lines[key] = line
        _collect_lines(value, key, lines, findings)


def _apply(tree: dict[str, Any], override: str) -> None:
    """Set one dotted key; missing sections on the way are created."""
    dotted, equals, text = override.partition("=")
    key = dotted.strip().split(".")
    if not equals or not all(key):
        raise _refusal(
            "bad-override",
            f"'{override}' does not set anything: there is no key with a value.",
            "Write section.key=value, e.g. model.epochs=5.",
        )
    try:
        _, value = _parsed(text)
    except yaml.YAMLError:
        message = f"The value of '{override}' is not valid YAML."
        raise _refusal("bad-override", message, "Put text in quotes.") from None
    for part in key[:-1]:
        below = tree.setdefault(part, {})
        if below is None:
            below = tree[part] = {}
        if not isinstance(below, dict):
            message = f"'{override}' sets a key below '{part}', but '{part}' is {below!r}."
            raise _refusal("bad-override", message, f"Set '{part}' itself.")
        tree = below
    tree[key[-1]] = value


def _unknown_keys(
    section: Mapping[str, Any], valid: Collection[str], parent: Key, lines: Lines
) -> list[Finding]:
    return [_unknown((*parent, str(key)), valid, lines) for key in section if key not in valid]


def _unknown(key: Key, valid: Collection[str], lines: Lines) -> Finding:
    message = f"Unknown key '{'.'.join(key)}'"
    remedy = f"{closest(key[-1], valid)}Valid keys: {first_few(valid, 40)}."
    return _located("unknown-key", message, remedy, key, lines)


def _located(
    code: str,
    message: str,
    remedy: str,
    key: Key,
    lines: Lines,
    column: str | None = None,
) -> Finding:
    """A finding whose message ends with the line of its key, or of the closest parent key."""
    nearest = next((key[:n] for n in range(len(key), 0, -1) if key[:n] in lines), None)
    where = f" (line {lines[nearest]})" if nearest else ""
    if code == "unknown-key" and nearest != key:
        where = " (set by an override)"
    return Finding("error", code, f"{message}{where}.", remedy, column=column or ".".join(key))


def _moved(finding: Finding, key: Key, lines: Lines) -> Finding:
    """A finding about a table's settings, with the line where the configuration has them."""
    return _located(finding.code, finding.message.rstrip("."), finding.remedy, key, lines)


def _refusal(code: str, message: str, remedy: str) -> RefusedInput:
    return refusal(code, message, remedy, kind=ConfigError)
