"""``Schema``: the roles of a table's columns, and the checks that need no data.

Guessing roles from a table lives in ``causalmmm.data.guess``, which does not know the schema.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator
from pydantic_core import PydanticCustomError

from causalmmm.data.names import is_reserved
from causalmmm.findings import Finding, PanelError, closest

if TYPE_CHECKING:
    from causalmmm.data.readers import Readable

# Name of the single store of a table without a store column.
NATIONAL = "national"

FREQUENCIES = re.compile(r"D|W|W-(MON|TUE|WED|THU|FRI|SAT|SUN)|MS")


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Channel(_Strict):
    """A paid channel, with a column of spend, of exposure (impressions, clicks), or both.

    The model's input is exposure if there is a column of it, else spend. A plain column name means
    spend.
    """

    spend: str | None = None
    exposure: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _from_name(cls, value: Any) -> Any:
        return {"spend": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _has_a_column(self) -> Self:
        if self.spend is None and self.exposure is None:
            raise PydanticCustomError(
                "channel-without-column", "a channel needs a spend or an exposure column"
            )
        return self

    @property
    def column(self) -> str:
        """The column that is the model's input."""
        return self.exposure or self.spend or ""


class Control(_Strict):
    """A control series; with ``future_known``, plans must contain its future values."""

    name: str
    future_known: bool = False

    @model_validator(mode="before")
    @classmethod
    def _from_name(cls, value: Any) -> Any:
        return {"name": value} if isinstance(value, str) else value


class Schema(_Strict):
    """Roles of the columns of a long table with one row per store and date.

    store               column of store names; None: a single store, ``national``.
    date                column of dates, one per step.
    target              column of the outcome.
    channels            channel name -> {spend, exposure}; a list of columns, or name -> column,
                        means spend.
    organic             columns of unpaid channels.
    mediators           columns between channels and target, such as page views.
    controls            columns that affect the target but cannot be set, such as the weather;
                        a name, or {name, future_known}.
    context             columns that describe the store.
    context_moves       None: detected; False: one value per store, checked; True: one value per
                        store and date.
    freq                "D", "W", "W-MON" ... "W-SUN" or "MS"; None: detected from the dates.
    revenue_per_target  column of money per unit of target.
    population          column of store sizes, one value per store.

    >>> schema = Schema(date="day", target="sales", channels=["tv", "web"], controls=["price"])
    >>> schema.nodes
    ['tv', 'web', 'sales']
    """

    store: str | None = None
    date: str
    target: str
    channels: dict[str, Channel] = Field(default_factory=dict)
    organic: tuple[str, ...] = ()
    mediators: tuple[str, ...] = ()
    controls: tuple[Control, ...] = ()
    context: tuple[str, ...] = ()
    context_moves: bool | None = None
    freq: str | None = None
    revenue_per_target: str | None = None
    population: str | None = None

    @field_validator("channels", mode="before")
    @classmethod
    def _channels_by_name(cls, value: Any) -> Any:
        if isinstance(value, (list, tuple)) and all(isinstance(v, str) for v in value):
            return {name: {"spend": name} for name in value}
        return value

    @field_validator("organic", "mediators", "controls", "context", mode="before")
    @classmethod
    def _one_or_many(cls, value: Any) -> Any:
        if value is None:
            return ()
        return (value,) if isinstance(value, str) else value

    @field_validator("freq")
    @classmethod
    def _known_frequency(cls, value: str | None) -> str | None:
        if value is not None and not FREQUENCIES.fullmatch(value):
            raise PydanticCustomError(
                "unknown-frequency", "freq must be D, W, W-MON ... W-SUN or MS", {"freq": value}
            )
        return value

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        if not self.channels and not self.organic:
            raise PydanticCustomError(
                "no-channel", "the schema has no channels, so there is nothing to measure"
            )
        role_of: dict[str, str] = {}
        for column, role in self.columns_with_roles():
            if column in role_of:
                raise PydanticCustomError(
                    "column-in-two-roles",
                    "column '{column}' has two roles: {first} and {second}",
                    {"column": column, "first": role_of[column], "second": role},
                )
            role_of[column] = role
        earlier: set[str] = set()
        for node in self.nodes:
            if is_reserved(node):
                raise PydanticCustomError(
                    "reserved-name",
                    "a series cannot be named '{column}': answers use it otherwise",
                    {"column": node},
                )
            if node in earlier:
                raise PydanticCustomError(
                    "duplicate-node", "two series are named '{column}'", {"column": node}
                )
            earlier.add(node)
        return self

    def columns_with_roles(self) -> Iterator[tuple[str, str]]:
        """(column, role) for every column of the schema, with the role as messages name it."""
        single = (("store", self.store), ("date", self.date), ("target", self.target))
        yield from ((column, role) for role, column in single if column is not None)
        for name, channel in self.channels.items():
            if channel.spend is not None:
                yield channel.spend, f"spend of channel '{name}'"
            if channel.exposure is not None:
                yield channel.exposure, f"exposure of channel '{name}'"
        yield from ((column, "organic channel") for column in self.organic)
        yield from ((column, "mediator") for column in self.mediators)
        yield from ((control.name, "control") for control in self.controls)
        yield from ((column, "context") for column in self.context)
        if self.revenue_per_target is not None:
            yield self.revenue_per_target, "revenue per target"
        if self.population is not None:
            yield self.population, "population"

    @property
    def nodes(self) -> list[str]:
        """Names of the series in model order: channels, organic, mediators, target."""
        return [*self.channels, *self.organic, *self.mediators, self.target]

    @property
    def roles(self) -> tuple[str, ...]:
        """One of "channel", "organic", "mediator", "target" per node."""
        counts = (len(self.channels), len(self.organic), len(self.mediators), 1)
        names = ("channel", "organic", "mediator", "target")
        return tuple(name for name, n in zip(names, counts, strict=True) for _ in range(n))

    @property
    def node_columns(self) -> list[str]:
        """The column whose values are the model's input, per node."""
        channels = [channel.column for channel in self.channels.values()]
        return [*channels, *self.organic, *self.mediators, self.target]

    @property
    def control_names(self) -> list[str]:
        return [control.name for control in self.controls]

    @property
    def known_controls(self) -> list[str]:
        """Controls whose future values plans must contain."""
        return [control.name for control in self.controls if control.future_known]

    @classmethod
    def check(cls, value: Schema | Mapping[str, Any]) -> Schema:
        """The schema that ``value`` describes; ``PanelError`` lists all errors in it."""
        if isinstance(value, Schema):
            return value
        try:
            return cls.model_validate(value)
        except ValidationError as error:
            raise PanelError(schema_findings(error)) from None

    @classmethod
    def guess(cls, data: Readable | Iterable[str]) -> tuple[Schema, list[Finding]]:
        """Guess the roles of the columns from their names, and from the values if there are any.

        ``data`` is a table, a path to one, or just its column names. Returns the schema and one
        notice per column with its guessed role and the reason. Raises ``PanelError`` if no date,
        target or channel is recognisable.

        >>> schema, reasons = Schema.guess(["shop", "date", "tv_spend", "web_spend", "sales"])
        >>> schema.target, list(schema.channels)
        ('sales', ['tv_spend', 'web_spend'])
        """
        from causalmmm.data.guess import guess_roles

        guess = guess_roles(data)
        return cls.check(guess.roles), guess.findings


def schema_findings(error: ValidationError) -> list[Finding]:
    """Pydantic's errors about a schema as findings that name the key."""
    return [_finding(item) for item in error.errors()]


def _finding(item: Any) -> Finding:
    key = ".".join(str(part) for part in item["loc"])
    kind = item["type"]
    context = item.get("ctx", {})
    if not key and kind == "model_type":
        return Finding(
            "error",
            "invalid-value",
            "This is not a schema.",
            "Pass a Schema, or a mapping with its keys.",
        )
    if kind == "missing":
        return Finding(
            "error",
            "missing-key",
            f"The schema does not say which column is the {key}.",
            f"Add '{key}: <column>' to the schema.",
            column=key,
        )
    if kind == "extra_forbidden":
        fields = {"channels": Channel.model_fields, "controls": Control.model_fields}
        keys = list(fields.get(str(item["loc"][0]), Schema.model_fields))
        hint = closest(str(item["loc"][-1]), keys)
        return Finding(
            "error",
            "unknown-key",
            f"The schema has no key '{key}'.",
            f"{hint}Valid keys: {', '.join(keys)}.",
            column=key,
        )
    remedies = {
        "column-in-two-roles": "Give the column one role and remove it from the others.",
        "channel-without-column": "Write 'tv: {spend: tv_cost}', or just 'tv: tv_cost'.",
        "no-channel": "Name at least one column under 'channels' or 'organic'.",
        "duplicate-node": "Rename the channel: the key under 'channels' can be chosen freely.",
        "reserved-name": "Rename it: the key under 'channels' can be chosen freely; other series "
        "are named by their columns.",
        "unknown-frequency": "Use one of these values, or omit freq to have it detected.",
    }
    remedy = remedies.get(kind)
    where = f"Schema key '{key}': " if key else "Schema: "
    return Finding(
        "error",
        kind if remedy else "invalid-value",
        f"{where}{item['msg']}.",
        remedy or f"Correct the value of '{key}'.",
        column=context.get("column") or key or None,
    )
