"""Plans: what channels will spend and what controls will be after the end of a panel's history.

Checks that a plan follows the history; what the model makes of it lives elsewhere.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from causalmmm.data.columns import Column, ColumnCheck, Rule
from causalmmm.data.keys import Keys, read_keys
from causalmmm.data.panel import Panel
from causalmmm.data.readers import Readable, Source, open_source
from causalmmm.data.rows import LISTED, Layout, describe_freq, lay_out
from causalmmm.data.schema import Channel
from causalmmm.findings import Finding, PanelError, Report, Severity, closest, counted, first_few


@dataclass(frozen=True)
class Plan:
    """The given part of the future of every store of a panel, in the panel's store order.

    series    names of the channels that are given, in the panel's node order.
    values    float32 [S, H, len(series)]; what feeds the model (exposure where a channel has
              one, else spend).
    controls  float32 [S, H, R] as ``panel.control_names``; NaN where the future is not known.
    horizon   H, the number of steps, the same for all stores.
    notices   what was converted or left unused.
    """

    series: tuple[str, ...]
    values: Column
    controls: Column
    horizon: int
    notices: tuple[Finding, ...] = ()


def validate_plan(plan: Readable, panel: Panel) -> Plan:
    """Check a plan against the history that it continues, and hold it as arrays.

    ``plan`` is a long table, or a path to one, with the panel's own column names: store, date,
    any of the channels' columns, and every control that the schema calls ``future_known``. Each
    store starts one step after its history ends and has the same number of gapless steps. Where
    a channel is measured in exposure and the plan gives only spend, the store's own past cost of
    exposure converts it, and a notice says so. Raises ``PanelError`` listing all that is wrong.
    """
    schema = panel.schema
    names = (schema.store, schema.date)
    source = open_source(plan, names.__contains__)
    if not source.rows:
        raise PanelError([Finding("error", "no-rows", "The plan has no rows.", "Fill the plan.")])
    examination = _PlanExamination(source, panel)
    found = examination.run()
    Report.of(examination.findings).raise_for_errors()
    assert found is not None
    return found


@dataclass
class _PlanExamination:
    source: Source
    panel: Panel
    findings: list[Finding] = field(default_factory=list)

    def run(self) -> Plan | None:
        self.findings += self.source.notices
        schema, present = self.panel.schema, set(self.source.names)
        given = {
            name: channel
            for name, channel in schema.channels.items()
            if channel.column in present or channel.spend in present
        }
        organic = [name for name in schema.organic if name in present]
        known = schema.known_controls
        self._compare_names([*given.values()], organic, known)
        layout = self._lay_out()
        check = ColumnCheck(layout, self.source.rows)
        columns = [self._channel(check, name, channel) for name, channel in given.items()]
        columns += [self._read(check, name, "organic channel") for name in organic]
        unknown = np.full(check.rows, np.nan, "f4")
        controls = [
            self._read(check, name, "control") if name in known and name in present else unknown
            for name in schema.control_names
        ]
        self.findings += check.findings
        if layout is None or any(f.severity == "error" for f in self.findings):
            return None
        stores, horizon = self.panel.n_stores, int(layout.offsets[1])
        order = _places(layout.stores, self.panel.stores)
        return Plan(
            series=(*given, *organic),
            values=_block(columns, stores, horizon)[order],
            controls=_block(controls, stores, horizon)[order],
            horizon=horizon,
            notices=tuple(self.findings),
        )

    def _compare_names(self, given: list[Channel], organic: list[str], known: list[str]) -> None:
        schema, present = self.panel.schema, set(self.source.names)
        needed = [(schema.date, "date"), *((name, "control, future known") for name in known)]
        if schema.store is not None:
            needed.append((schema.store, "store"))
        for column, role in needed:
            if column not in present:
                message = f"The plan has no column '{column}' ({role})."
                remedy = f"{closest(column, present)}Add the column."
                self.findings.append(
                    Finding("error", "missing-column", message, remedy, column=column)
                )
        if not given and not organic and not known:
            message = "The plan gives neither a channel nor a control of the panel."
            remedy = f"Add columns out of {first_few(c.column for c in schema.channels.values())}."
            self.findings.append(Finding("error", "empty-plan", message, remedy))
        used = {column for column, _ in needed} | set(organic)
        used |= {c for channel in given for c in (channel.spend, channel.exposure) if c}
        unused = [name for name in self.source.names if name not in used]
        if unused:
            message = f"Columns of the plan that are not used: {first_few(unused)}."
            self.findings.append(Finding("notice", "unused-column", message))

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
        if len(unknown):
            self._refuse(
                "unknown-store",
                f"The plan names {counted(len(unknown), 'store')} that the panel lacks: "
                f"{first_few(unknown)}.",
                "Remove their rows, or correct the names.",
                str(unknown[0]),
            )
        if len(missing):
            self._refuse(
                "plan-store-missing",
                f"The plan lacks {counted(len(missing), 'store')} of the panel: "
                f"{first_few(missing)}.",
                "Add their rows, or select() the stores that are planned.",
                str(missing[0]),
            )

    def _compare_starts(self, layout: Layout) -> None:
        """Each store's plan begins one step after its history; all plans are equally long."""
        data, panel = self.panel.data, self.panel
        place = {name: s for s, name in enumerate(panel.stores.tolist())}
        at = np.array([place.get(name, -1) for name in layout.stores.tolist()])
        last = data.grid[data.start[at] + panel.lengths[at] - 1]
        following = _next_step(last, panel.freq)
        wrong = np.flatnonzero((layout.first_days != following) & (at >= 0))
        for s in wrong[:LISTED]:
            first, store = layout.first_days[s], str(layout.stores[s])
            self._refuse(
                "plan-start",
                f"The plan of store '{store}' starts on {first}, but its history ends on "
                f"{last[s]}.",
                f"Start it on {following[s]}, the next {describe_freq(panel.freq)} step.",
                store,
                str(first),
            )
        if len(wrong) > LISTED:
            message = f"The plans of {len(wrong) - LISTED} more stores do not follow the history."
            self._refuse("plan-start", message, "Start each one step after its history ends.")
        counts = np.diff(layout.offsets)
        usual = int(np.argmax(np.bincount(counts)))
        uneven = np.flatnonzero(counts != usual)
        if len(uneven):
            store = str(layout.stores[uneven[0]])
            self._refuse(
                "plan-horizon",
                f"Plans differ in length: store '{store}' has "
                f"{counted(int(counts[uneven[0]]), 'step')}, others {usual} "
                f"({counted(len(uneven), 'store')} of that kind).",
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
        """What feeds the model: the column itself, or spend at the store's past cost."""
        if channel.column in self.source.names:
            return self._read(check, channel.column, "exposure" if channel.exposure else "spend")
        assert channel.spend is not None
        money = self._read(check, channel.spend, "spend")
        if check.layout is None:
            return money
        per_money = self._exposure_per_money(name)
        at = _places(self.panel.stores, check.layout.stores)
        owner = np.repeat(np.arange(len(check.layout.stores)), np.diff(check.layout.offsets))
        self.findings.append(
            Finding(
                "notice",
                "spend-as-exposure",
                f"Channel '{name}' is planned in spend: '{channel.exposure}' follows at each "
                "store's average past exposure per unit of spend.",
                column=channel.spend,
            )
        )
        return money * per_money[at][owner]

    def _exposure_per_money(self, name: str) -> NDArray[np.float32]:
        """float32 [S]; the panel's average for stores that have spent nothing."""
        data, j = self.panel.data, self.panel.nodes.index(name)
        shown = np.add.reduceat(data.values[:, j].astype(np.float64), data.offsets[:-1])
        money = np.add.reduceat(self.panel.spend[:, j].astype(np.float64), data.offsets[:-1])
        common = shown.sum() / money.sum() if money.sum() > 0 else 1.0
        rate = np.where(money > 0, shown / np.where(money > 0, money, 1), common)
        return rate.astype(np.float32)


def _next_step(days: NDArray[np.datetime64], freq: str) -> NDArray[np.datetime64]:
    if freq == "MS":
        return (days.astype("datetime64[M]") + 1).astype("datetime64[D]")
    return days + (1 if freq == "D" else 7)


def _places(names: NDArray[np.str_], wanted: NDArray[np.str_]) -> NDArray[np.int64]:
    """Where each wanted name stands among ``names``; 0 where it does not."""
    place = {name: s for s, name in enumerate(names.tolist())}
    return np.array([place.get(name, 0) for name in wanted.tolist()], dtype=np.int64)


def _block(columns: list[Column], stores: int, horizon: int) -> Column:
    if not columns:
        return np.zeros((stores, horizon, 0), np.float32)
    return np.stack(columns, axis=-1).reshape(stores, horizon, len(columns))
