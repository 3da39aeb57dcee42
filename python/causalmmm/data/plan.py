"""Plans: future spend and controls, from the step after a panel's history on.

Checks that a plan continues the history. How a forecast uses it belongs to the model.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from causalmmm.data.columns import Column, ColumnCheck, Rule
from causalmmm.data.keys import Keys, read_keys, without_stores
from causalmmm.data.layout import LISTED, Layout, describe_freq
from causalmmm.data.panel import Panel
from causalmmm.data.readers import Readable, open_source
from causalmmm.data.rows import lay_out
from causalmmm.data.schema import Channel
from causalmmm.data.sources import Source
from causalmmm.dates import next_steps
from causalmmm.findings import (
    Finding,
    PanelError,
    Report,
    Severity,
    closest,
    counted,
    first_few,
    refusal,
    unknown_store,
)

_BEYOND = 2.0  # times the largest value of a history


@dataclass(frozen=True)
class Plan:
    """Planned values for every store of a panel, in the panel's store order.

    series    names of the planned channels, in the panel's node order.
    values    float32 [S, H, len(series)]; the model's input: exposure where the channel has it,
              else spend.
    controls  float32 [S, H, R] as ``panel.control_names``; NaN where the future is unknown.
    horizon   H, the number of steps; the same for all stores.
    notices   conversions and unused columns.

    >>> ahead = pd.date_range(panel.dates(panel.stores[0])[-1], periods=5, freq=panel.freq)[1:]
    >>> keys = pd.MultiIndex.from_product([panel.stores, ahead]).to_frame(index=False)
    >>> frame = keys.set_axis([panel.schema.store, panel.schema.date], axis=1).assign(x0=50.0)
    >>> validate_plan(frame, panel, controls=False).horizon
    4
    """

    series: tuple[str, ...]
    values: Column
    controls: Column
    horizon: int
    notices: tuple[Finding, ...] = ()


def validate_plan(plan: Readable, panel: Panel, *, controls: bool = True) -> Plan:
    """Check a plan against the history that it continues, and convert it to arrays.

    ``plan`` is a long table, or a path to one, with the panel's column names: store, date, any
    channel columns, and every control that the schema marks as ``future_known`` (without
    ``controls`` they may be left out: what a change of spend does is the same for all). Each store
    starts one step after the end of its history and has the same number of steps, without gaps.
    If a channel is modelled by its exposure and the plan has only spend, spend is converted at the
    store's past ratio of exposure to spend, with a notice. Raises ``PanelError`` listing all
    errors.

    >>> ahead = pd.date_range(panel.dates(panel.stores[0])[-1], periods=5, freq=panel.freq)[1:]
    >>> keys = pd.MultiIndex.from_product([panel.stores, ahead]).to_frame(index=False)
    >>> frame = keys.set_axis([panel.schema.store, panel.schema.date], axis=1).assign(x0=50.0)
    >>> validate_plan(frame, panel, controls=False).series
    ('x0',)
    """
    schema = panel.schema
    names = (schema.store, schema.date)
    source = open_source(plan, names.__contains__)
    if not source.rows:
        raise refusal("no-rows", "The plan has no rows.", "Add its rows.", kind=PanelError)
    check = _PlanCheck(source, panel, controls)
    checked = check.run()
    Report.of(check.findings).raise_for_errors()
    assert checked is not None
    return checked


def plan_of_stores(plan: Readable, panel: Panel, stores: Collection[str]) -> Source:
    """A plan for these stores of the panel; it may hold rows of the others too, or not."""
    schema = panel.schema
    names = (schema.store, schema.date)
    source = open_source(plan, names.__contains__)
    if schema.store is None or not set(names) <= set(source.names):
        return source
    others = set(panel.stores.tolist()) - set(stores)
    return without_stores(source, schema.store, schema.date, others)


@dataclass
class _PlanCheck:
    source: Source
    panel: Panel
    controls: bool = True
    findings: list[Finding] = field(default_factory=list)

    def run(self) -> Plan | None:
        self.findings += self.source.notices
        schema, present = self.panel.schema, set(self.source.names)
        planned = {
            name: channel
            for name, channel in schema.channels.items()
            if channel.column in present or channel.spend in present
        }
        organic = [name for name in schema.organic if name in present]
        self._compare_names([*planned.values()], organic)
        layout = self._lay_out()
        check = ColumnCheck(layout, self.source.rows)
        columns = [self._channel(check, name, channel) for name, channel in planned.items()]
        columns += [self._read(check, name, "organic channel") for name in organic]
        unknown = np.full(check.rows, np.nan, np.float32)
        controls = [
            self._read(check, name, "control")
            if name in schema.known_controls and name in present
            else unknown
            for name in schema.control_names
        ]
        self.findings += check.findings
        if layout is None or any(f.severity == "error" for f in self.findings):
            return None
        stores, horizon = self.panel.n_stores, int(layout.offsets[1])
        order = _positions(layout.stores, self.panel.stores)
        return Plan(
            series=(*planned, *organic),
            values=_block(columns, stores, horizon)[order],
            controls=_block(controls, stores, horizon)[order],
            horizon=horizon,
            notices=tuple(self.findings),
        )

    def _compare_names(self, planned: list[Channel], organic: list[str]) -> None:
        schema, present = self.panel.schema, set(self.source.names)
        known = schema.known_controls
        needed = [(schema.date, "date")]
        if self.controls:
            needed += [(name, "control, future known") for name in known]
        if schema.store is not None:
            needed.append((schema.store, "store"))
        for column, role in needed:
            if column not in present:
                message = f"The plan has no column '{column}' ({role})."
                remedy = f"{closest(column, present)}Add the column."
                self.findings.append(
                    Finding("error", "missing-column", message, remedy, column=column)
                )
        if not planned and not organic and not known:
            message = "The plan contains neither a channel nor a control of the panel."
            columns = first_few(channel.column for channel in schema.channels.values())
            remedy = f"Add at least one of the columns {columns}."
            self.findings.append(Finding("error", "empty-plan", message, remedy))
        used = {column for column, _ in needed} | set(organic) | set(known)
        used |= {c for channel in planned for c in (channel.spend, channel.exposure) if c}
        unused = [name for name in self.source.names if name not in used]
        if unused:
            message = f"Unused columns of the plan: {first_few(unused)}."
            paid = {c for k in schema.channels.values() for c in (k.spend, k.exposure) if c}
            others = sorted((paid | set(schema.organic) | set(known)) - present)
            hint = "".join(closest(name, others) for name in unused[:3]).strip()
            self.findings.append(Finding("notice", "unused-column", message, hint))

    def _lay_out(self) -> Layout | None:
        schema, present = self.panel.schema, set(self.source.names)
        if schema.date not in present or (schema.store and schema.store not in present):
            return None
        keys = read_keys(self.source, schema.store, schema.date)
        if schema.store is None:
            keys.stores = self.panel.stores.copy()
        self.findings += keys.findings
        if not keys.trusted:
            return None
        self._compare_stores(keys)
        layout = lay_out(keys, self.panel.freq, 1, schema.date)
        self.findings += layout.findings
        if layout.freq == self.panel.freq:
            self._compare_starts(layout)
        return layout

    def _compare_stores(self, keys: Keys) -> None:
        unknown = np.setdiff1d(keys.stores, self.panel.stores)
        missing = np.setdiff1d(self.panel.stores, keys.stores)
        known = self.panel.stores.tolist()
        if len(unknown):
            self._refuse(
                "unknown-store",
                f"The plan names {counted(len(unknown), 'store')} not in the panel: "
                f"{first_few(unknown)}.",
                f"Remove their rows, or correct the names. {unknown_store(str(unknown[0]), known)}",
                str(unknown[0]),
            )
        if len(missing):
            self._refuse(
                "plan-store-missing",
                f"The plan has no rows for {counted(len(missing), 'store')} of the panel: "
                f"{first_few(missing)}.",
                "Add their rows, or ask for the planned stores alone: --store, or panel.select().",
                str(missing[0]),
            )

    def _compare_starts(self, layout: Layout) -> None:
        """Each store's plan begins one step after its history; all plans have the same length."""
        data, panel = self.panel.data, self.panel
        position = _positions(panel.stores, layout.stores, missing=-1)
        last = data.grid[data.start[position] + panel.lengths[position] - 1]
        expected = next_steps(last, panel.freq)
        wrong = np.flatnonzero((layout.first_days != expected) & (position >= 0))
        for s in wrong[:LISTED]:
            first, store = layout.first_days[s], str(layout.stores[s])
            self._refuse(
                "plan-start",
                f"The plan of store '{store}' starts on {first}, but its history ends on "
                f"{last[s]}.",
                f"Start it on {expected[s]}, the next {describe_freq(panel.freq)} step.",
                store,
                str(first),
            )
        if len(wrong) > LISTED:
            message = f"The plans of {len(wrong) - LISTED} more stores do not continue the history."
            self._refuse(
                "plan-start", message, "Start each plan one step after the end of the history."
            )
        counts = np.diff(layout.offsets)
        common = int(np.argmax(np.bincount(counts)))
        uneven = np.flatnonzero(counts != common)
        if len(uneven):
            store = str(layout.stores[uneven[0]])
            self._refuse(
                "plan-horizon",
                f"Plans differ in length: store '{store}' has "
                f"{counted(int(counts[uneven[0]]), 'step')}, most stores have {common} "
                f"({counted(len(uneven), 'store')} differ).",
                "Give every store the same number of steps.",
                store,
            )

    def _refuse(
        self,
        code: str,
        message: str,
        remedy: str,
        store: str | None = None,
        date: str | None = None,
    ) -> None:
        column = self.panel.schema.date if code.startswith("plan") else self.panel.schema.store
        self.findings.append(Finding("error", code, message, remedy, column, store, date))

    def _read(self, check: ColumnCheck, name: str, role: str) -> Column:
        negative: tuple[str, Severity] | None = None
        if role != "control":
            negative = ("negative-spend" if role == "spend" else "negative-exposure", "error")
        rule = Rule(role, "required", negative, flags=role == "control")
        return check.read(self.source.column(name), name, rule)

    def _channel(self, check: ColumnCheck, name: str, channel: Channel) -> Column:
        """The model's input: the planned column, or spend converted to exposure."""
        if channel.column in self.source.names:
            return self._read(check, channel.column, "exposure" if channel.exposure else "spend")
        assert channel.spend is not None
        money = self._read(check, channel.spend, "spend")
        if check.layout is None:
            return money
        rate = self._exposure_per_spend(name)
        position = _positions(self.panel.stores, check.layout.stores)
        row_store = np.repeat(np.arange(len(check.layout.stores)), np.diff(check.layout.offsets))
        self.findings.append(
            Finding(
                "notice",
                "spend-as-exposure",
                f"Channel '{name}' is planned in spend; it is converted to '{channel.exposure}' at "
                "each store's average past exposure per unit of spend.",
                column=channel.spend,
            )
        )
        return money * rate[position][row_store]

    def _exposure_per_spend(self, name: str) -> NDArray[np.float32]:
        """float32 [S]; the panel's average for stores without spend."""
        data, j = self.panel.data, self.panel.nodes.index(name)
        exposure = np.add.reduceat(data.values[:, j].astype(np.float64), data.offsets[:-1])
        money = np.add.reduceat(self.panel.spend[:, j].astype(np.float64), data.offsets[:-1])
        common = exposure.sum() / money.sum() if money.sum() > 0 else 1.0
        rate = np.where(money > 0, exposure / np.where(money > 0, money, 1), common)
        return rate.astype(np.float32)


def _positions(
    names: NDArray[np.str_], wanted: NDArray[np.str_], missing: int = 0
) -> NDArray[np.int64]:
    """Index of each wanted name in ``names``; ``missing`` for those that are not there."""
    index = {name: s for s, name in enumerate(names.tolist())}
    return np.array([index.get(name, missing) for name in wanted.tolist()], dtype=np.int64)


def _block(columns: list[Column], stores: int, horizon: int) -> Column:
    if not columns:
        return np.zeros((stores, horizon, 0), np.float32)
    return np.stack(columns, axis=-1).reshape(stores, horizon, len(columns))


def beyond_history(plan: Plan, panel: Panel) -> Iterator[str]:
    """Planned series that lie far beyond anything their store has seen."""
    data = panel.data
    columns = [panel.nodes.index(name) for name in plan.series]
    largest = np.maximum.reduceat(data.values[:, columns], data.offsets[:-1], axis=0)  # [S, K]
    planned = np.nanmax(plan.values, axis=1)  # [S, K]
    beyond = planned > _BEYOND * np.maximum(largest, np.finfo(np.float32).tiny)
    for k in np.flatnonzero(beyond.any(0)):
        stores = panel.stores[beyond[:, k]].tolist()
        first = int(np.flatnonzero(beyond[:, k])[0])
        yield (
            f"the plan of '{plan.series[k]}' lies beyond twice its largest value in "
            f"{counted(len(stores), 'store')} ({first_few(stores, 3)}): {planned[first, k]:,.6g} "
            f"where at most {largest[first, k]:,.6g} was seen. Saturation there is a guess from "
            "the shape of the curve: intervals widen by what that leaves open, and no more"
        )
