"""``TableCheck``: one pass over a table whose schema is known, from its columns to its content.

Which table, schema and policies is decided in ``validation``; the checks of single columns live in
``keys``, ``rows``, ``columns``, ``collinearity`` and ``plausibility``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from causalmmm.data.arrays import Content
from causalmmm.data.collinearity import Collinearity
from causalmmm.data.columns import Column, ColumnCheck, Rule
from causalmmm.data.flags import is_flag
from causalmmm.data.gaps import Gaps
from causalmmm.data.keys import read_keys
from causalmmm.data.layout import Layout
from causalmmm.data.plausibility import Plausibility
from causalmmm.data.rows import cause_first, lay_out
from causalmmm.data.schema import Channel, Schema
from causalmmm.data.sources import Source
from causalmmm.dates import step_number, steps_from
from causalmmm.engine.spec.series import SeriesData
from causalmmm.findings import Finding, Report, Severity, closest, counted, first_few

NEGATIVE_SPEND: tuple[str, Severity] = ("negative-spend", "error")
NEGATIVE_EXPOSURE: tuple[str, Severity] = ("negative-exposure", "error")
NEGATIVE_TARGET: tuple[str, Severity] = ("negative-target", "warning")


@dataclass(frozen=True)
class Checked:
    """The report on a table, and its content if there are no errors and it was asked for."""

    report: Report
    content: Content | None


def _unused_flags(columns: list[str]) -> Finding:
    several = len(columns) > 1
    return Finding(
        "warning",
        "unused-flag",
        f"{first_few(columns)} {'hold' if several else 'holds'} only 0 and 1 and "
        f"{'have' if several else 'has'} no role: what {'they tell' if several else 'it tells'} of "
        "(a closure, a price change) is booked to whatever else moved at the time.",
        "List it under controls, or remove the column from the table if it tells of nothing.",
        column=columns[0],
        rows=len(columns),
    )


class TableCheck:
    """One pass over a table: stores and dates first, then one column after the other."""

    def __init__(
        self,
        source: Source,
        schema: Schema,
        policies: dict[str, str],
        findings: list[Finding],
        gaps: Gaps,
    ) -> None:
        self.source = source
        self.schema = schema
        self.policies = policies
        self.gaps = gaps
        self.findings = [*source.notices, *findings]
        self.guessed = bool(findings)

    def run(self, min_steps: int, keep: bool) -> Checked:
        self._compare_names()
        layout = self._lay_out(min_steps)
        check = ColumnCheck(layout, self.source.rows)
        keep = keep and layout is not None and not self._has_errors()
        values, spend = self._series(check, keep)
        controls = self._block(check, self.schema.control_names, "control", "controls", keep)
        context = self._context(check, keep)
        revenue = self._revenue(check)
        population = self._population(check)
        self.findings += check.findings
        report = Report.of(self.findings)
        if not keep or not report.ok or layout is None or values is None or spend is None:
            return Checked(report, None)
        assert layout.freq is not None
        assert controls is not None
        assert context is not None
        first = layout.days.min()
        last = step_number(np.array([layout.days.max()]), layout.freq, first)[0]
        data = SeriesData(
            values=values,
            offsets=layout.offsets,
            start=step_number(layout.first_days, layout.freq, first),
            grid=steps_from(first, int(last) + 1, layout.freq),
            freq=layout.freq,
            roles=self.schema.roles,
            controls=controls,
            context=context,
        )
        content = Content(self.schema, layout.stores, data, spend, revenue, population)
        return Checked(report, content)

    def _has_errors(self) -> bool:
        return any(f.severity == "error" for f in self.findings)

    def _compare_names(self) -> None:
        present = set(self.source.names)
        named = dict(self.schema.columns_with_roles())
        for column, role in named.items():
            if column not in present:
                columns = first_few(self.source.names, 12)
                self.findings.append(
                    Finding(
                        "error",
                        "missing-column",
                        f"Column '{column}' ({role}) is missing.",
                        f"{closest(column, present)}The table has {columns}.",
                        column=column,
                    )
                )
        unused = [name for name in self.source.names if name not in named]
        if unused and not self.guessed:
            flags = [name for name in unused if is_flag(self.source, name)]
            if flags:
                self.findings.append(_unused_flags(flags))
            unused = [name for name in unused if name not in flags]
        if unused and not self.guessed:
            self.findings.append(
                Finding(
                    "notice",
                    "unused-column",
                    f"Unused columns, because they have no role: {first_few(unused)}.",
                )
            )

    def _lay_out(self, min_steps: int) -> Layout | None:
        present = set(self.source.names)
        store, date = self.schema.store, self.schema.date
        if date not in present or (store is not None and store not in present):
            return None
        keys = read_keys(self.source, store, date)
        if not keys.trusted:
            self.findings += keys.findings
            return None
        layout = lay_out(keys, self.schema.freq, min_steps, date, self.gaps)
        self.findings += cause_first(keys.findings, layout)
        repeated = [f for f in layout.findings if f.code == "duplicate-row"]
        self.findings += layout.findings
        if store is None and repeated:
            self.findings = [f for f in self.findings if f not in repeated]
            message = f"Dates in '{date}' repeat, but the schema has no store column."
            remedy = "Name the column that distinguishes rows of the same date: store: <column>."
            self.findings.append(Finding("error", "no-store-column", message, remedy, column=date))
        return layout

    def _series(self, check: ColumnCheck, keep: bool) -> tuple[Column | None, Column | None]:
        """Node values [rows, N] and spend [rows, n_paid], reading every column once."""
        schema, rows = self.schema, check.rows
        n_paid = len(schema.channels)
        collinearity, plausibility = Collinearity(rows), Plausibility(check)
        values = np.empty((rows, len(schema.nodes)), np.float32) if keep else None
        spend = values[:, :n_paid] if values is not None else None
        separate = any(c.exposure is not None for c in schema.channels.values())
        if keep and separate:
            spend = np.full((rows, n_paid), np.nan, np.float32)
        for j, (name, channel) in enumerate(schema.channels.items()):
            money, exposure = self._channel(check, name, channel)
            model_input = exposure if channel.exposure else money
            if model_input is not None:
                check.check_constant(model_input, channel.column, f"Channel '{name}'", "channel")
                for judge in (collinearity, plausibility):
                    judge.add(model_input, channel.column, f"Channel '{name}'", channel=True)
            if values is not None and model_input is not None:
                values[:, j] = model_input
            if spend is not None and separate and money is not None:
                spend[:, j] = money
        for j, (column, rule, kind) in enumerate(self._unpaid_series(), start=n_paid):
            numbers = self._column(check, column, rule)
            if numbers is None:
                continue
            check.check_constant(numbers, column, rule.title(column), kind)
            for judge in (collinearity, plausibility):
                judge.add(numbers, column, rule.title(column), channel=kind == "channel")
            if values is not None:
                values[:, j] = numbers
        check.findings += collinearity.findings() + plausibility.findings()
        return values, spend

    def _channel(
        self, check: ColumnCheck, name: str, channel: Channel
    ) -> tuple[Column | None, Column | None]:
        """Spend and exposure of a paid channel, each None if there is no such column."""
        policy = self.policies["channels"]
        money = self._column(check, channel.spend, Rule("spend", policy, NEGATIVE_SPEND))
        exposure = self._column(
            check, channel.exposure, Rule("exposure", policy, NEGATIVE_EXPOSURE)
        )
        if money is not None and exposure is not None:
            check.add(
                np.flatnonzero((money > 0) & (exposure == 0)),
                "warning",
                "spend-without-exposure",
                name,
                f"Channel '{name}' " + "has spend but no exposure in {n} of {where}, first {date}.",
                "Check that spend and exposure are booked on the same dates.",
            )
        return money, exposure

    def _unpaid_series(self) -> list[tuple[str, Rule, str]]:
        """(column, rule, kind) of organic channels, mediators and the target, in node order."""
        schema, policies = self.schema, self.policies
        organic = Rule("organic channel", policies["organic"], NEGATIVE_EXPOSURE)
        mediator = Rule("mediator", policies["mediators"])
        target = Rule("target", policies["target"], NEGATIVE_TARGET)
        return [
            *((column, organic, "channel") for column in schema.organic),
            *((column, mediator, "series") for column in schema.mediators),
            (schema.target, target, "target"),
        ]

    def _column(self, check: ColumnCheck, column: str | None, rule: Rule) -> Column | None:
        if column is None or column not in self.source.names:
            return None
        return check.read(self.source.column(column), column, rule)

    def _block(
        self, check: ColumnCheck, names: list[str], role: str, policy: str, keep: bool
    ) -> Column | None:
        block = np.empty((check.rows, len(names)), np.float32) if keep else None
        for j, name in enumerate(names):
            rule = Rule(role, self.policies[policy], flags=True, amount=False)
            numbers = self._column(check, name, rule)
            if numbers is None:
                continue
            check.check_constant(numbers, name, rule.title(name), role)
            if block is not None:
                block[:, j] = numbers
        return block

    def _context(self, check: ColumnCheck, keep: bool) -> Column | None:
        """float32 [S, C] if every column is constant within every store, else [rows, C]."""
        rule = Rule("context", self.policies["context"], flags=True, amount=False)
        columns: list[Column] = []
        moving: dict[str, NDArray[np.bool_]] = {}
        for name in self.schema.context:
            numbers = self._column(check, name, rule)
            if numbers is None:
                continue
            columns.append(numbers)
            least, most = check.span(numbers)
            if (least < most).any() and check.layout is not None:
                moving[name] = least < most
        for name, stores in moving.items():
            self._report_moving(check, name, stores)
        if not keep or check.layout is None:
            return None
        starts = check.layout.offsets[:-1]
        moves = bool(moving) if self.schema.context_moves is None else self.schema.context_moves
        rows = check.rows if moves else len(starts)
        block = np.empty((rows, len(columns)), np.float32)
        for j, column in enumerate(columns):
            block[:, j] = column if moves else column[starts]
        return block

    def _report_moving(self, check: ColumnCheck, name: str, moving: NDArray[np.bool_]) -> None:
        """``moving`` bool [S]: stores in which the context changes over time."""
        declared = self.schema.context_moves
        if declared is True or check.layout is None:
            return
        n, share = int(moving.sum()), float(moving.mean())
        store = str(check.layout.stores[int(np.flatnonzero(moving)[0])])
        few = declared is None and share < 0.05
        severity: Severity = "error" if declared is False else "warning" if few else "notice"
        check.findings.append(
            Finding(
                severity,
                "context-moves",
                f"Context '{name}' changes over time in {n} of {len(moving)} stores, first in "
                f"store '{store}'"
                + (
                    ", although the schema says context_moves: false."
                    if severity == "error"
                    else "; it is read as one value per store and date."
                ),
                ""
                if severity == "notice"
                else "Give each store a single value, or write context_moves: true in the schema.",
                column=name,
                store=store,
                rows=n,
            )
        )

    def _revenue(self, check: ColumnCheck) -> Column | None:
        rule = Rule("revenue per target", "required", ("negative-revenue", "error"), amount=False)
        return self._column(check, self.schema.revenue_per_target, rule)

    def _population(self, check: ColumnCheck) -> Column | None:
        name = self.schema.population
        rule = Rule("population", "required", ("negative-population", "error"), amount=False)
        numbers = self._column(check, name, rule)
        if numbers is None or check.layout is None:
            return None
        least, most = check.span(numbers)
        varying = np.flatnonzero(least < most)
        if len(varying):
            store = str(check.layout.stores[varying[0]])
            check.findings.append(
                Finding(
                    "error",
                    "population-moves",
                    f"Population '{name}' changes within {counted(len(varying), 'store')}, "
                    f"first '{store}'.",
                    "Give each store a single value, or declare the column as context.",
                    column=name,
                    store=store,
                    rows=len(varying),
                )
            )
        return most
