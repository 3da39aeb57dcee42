"""Everything that is checked before a table becomes a panel, gathered in one report.

The order of the checks lives here; each kind of check has its module (``layout`` for stores and
dates, ``columns`` for numbers). Nothing is dropped or filled here without a finding that says so.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from causalmmm.data.collinearity import Overlap
from causalmmm.data.columns import POLICIES, Column, ColumnCheck, Rule
from causalmmm.data.guess import is_key
from causalmmm.data.keys import read_keys
from causalmmm.data.readers import Policies, Readable, Source, open_source
from causalmmm.data.rows import Layout, lay_out
from causalmmm.data.schema import Schema
from causalmmm.dates import step_number, steps_from
from causalmmm.engine.spec.series import SeriesData
from causalmmm.findings import Finding, PanelError, Report, Severity, closest, counted, first_few

POLICY_ROLES = ("channels", "organic", "mediators", "target", "controls", "context")

NEGATIVE_SPEND: tuple[str, Severity] = ("negative-spend", "error")
NEGATIVE_EXPOSURE: tuple[str, Severity] = ("negative-exposure", "error")
NEGATIVE_TARGET: tuple[str, Severity] = ("negative-target", "warning")


@dataclass(frozen=True)
class Parts:
    """The checked content of a table, as a ``Panel`` holds it."""

    schema: Schema
    stores: NDArray[np.str_]
    data: SeriesData
    spend: Column
    revenue_per_target: Column | None
    population: Column | None


@dataclass(frozen=True)
class Examined:
    """What was found in a table, and its content when nothing refuses it."""

    report: Report
    parts: Parts | None


def validate(
    data: Readable,
    schema: Schema | Mapping[str, Any] | None = None,
    *,
    nan: Policies = None,
    min_steps: int = 8,
) -> Report:
    """Check a table, or a CSV or Parquet file, and report all that is found.

    Never raises for what is wrong with the data; see ``Panel.from_frame`` for the arguments.
    """
    return examine(data, schema, nan=nan, min_steps=min_steps, keep=False).report


def examine(
    data: Readable,
    schema: Schema | Mapping[str, Any] | None,
    *,
    nan: Policies = None,
    min_steps: int = 8,
    keep: bool = True,
) -> Examined:
    """Check a table and, with ``keep``, return its content when there is no error."""
    findings: list[Finding] = []
    try:
        policies = check_policies(nan)
        roles = None if schema is None else Schema.check(schema)
        keys = () if roles is None else (roles.store, roles.date)
        source = open_source(data, is_key if roles is None else keys.__contains__)
        if not source.rows:
            _refuse("no-rows", "The table has a header but no rows.", "Export the table again.")
        if roles is None:
            roles, findings = Schema.guess(source)
    except PanelError as error:
        return Examined(Report.of([*findings, *error.report]), None)
    return _Examination(source, roles, policies, findings).run(min_steps, keep)


def check_policies(nan: Policies) -> dict[str, str]:
    """The policy of every role, from one word or from a mapping."""
    given: dict[Any, Any] = {}
    if isinstance(nan, Mapping):
        given = dict(nan)
    elif nan is not None:
        given = dict.fromkeys(POLICY_ROLES, nan)
    findings = []
    chosen = dict.fromkeys(POLICY_ROLES, "error")
    for role, policy in given.items():
        word = "zero" if policy == 0 and policy is not False else policy
        if role not in POLICY_ROLES or word not in POLICIES:
            findings.append(
                Finding(
                    "error",
                    "unknown-policy",
                    f"There is no policy for missing values 'nan: {{{role}: {policy}}}'.",
                    f"Roles are {', '.join(POLICY_ROLES)}; policies are {', '.join(POLICIES)}.",
                    column=str(role),
                )
            )
        else:
            chosen[role] = word
    if findings:
        raise PanelError(findings)
    return chosen


class _Examination:
    """One pass over a table: stores and dates first, then each column in turn."""

    def __init__(
        self, source: Source, schema: Schema, policies: dict[str, str], findings: list[Finding]
    ) -> None:
        self.source = source
        self.schema = schema
        self.policies = policies
        self.findings = [*source.notices, *findings]
        self.guessed = bool(findings)

    def run(self, min_steps: int, keep: bool) -> Examined:
        self._compare_names()
        layout = self._lay_out(min_steps)
        check = ColumnCheck(layout, self.source.rows)
        keep = keep and layout is not None and not self._refused()
        values, spend = self._series(check, keep)
        controls = self._plain(check, self.schema.control_names, "control", "controls", keep)
        context = self._context(check, keep)
        revenue = self._revenue(check)
        population = self._population(check)
        self.findings += check.findings
        report = Report.of(self.findings)
        if not keep or not report.ok or layout is None or values is None or spend is None:
            return Examined(report, None)
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
        parts = Parts(self.schema, layout.stores, data, spend, revenue, population)
        return Examined(report, parts)

    def _refused(self) -> bool:
        return any(f.severity == "error" for f in self.findings)

    def _compare_names(self) -> None:
        present = set(self.source.names)
        named = dict(self.schema.columns_with_roles())
        for column, role in named.items():
            if column not in present:
                have = first_few(self.source.names, 12)
                self.findings.append(
                    Finding(
                        "error",
                        "missing-column",
                        f"There is no column '{column}' ({role}).",
                        f"{closest(column, present)}The table has {have}.",
                        column=column,
                    )
                )
        unused = [name for name in self.source.names if name not in named]
        if unused and not self.guessed:
            self.findings.append(
                Finding(
                    "notice",
                    "unused-column",
                    f"Not used, because without a role: {first_few(unused)}.",
                )
            )

    def _lay_out(self, min_steps: int) -> Layout | None:
        present = set(self.source.names)
        store, date = self.schema.store, self.schema.date
        if date not in present or (store is not None and store not in present):
            return None
        rows = read_keys(self.source, store, date)
        self.findings += rows.findings
        if not rows.trusted:
            return None
        layout = lay_out(rows, self.schema.freq, min_steps, date)
        repeated = [f for f in layout.findings if f.code == "duplicate-row"]
        self.findings += layout.findings
        if store is None and repeated:
            self.findings = [f for f in self.findings if f not in repeated]
            message = f"Dates in '{date}' repeat and the schema names no store column."
            remedy = "Name the column that tells the rows of one date apart: store: <column>."
            self.findings.append(Finding("error", "no-store-column", message, remedy, column=date))
        return layout

    def _series(self, check: ColumnCheck, keep: bool) -> tuple[Column | None, Column | None]:
        """Fill the node values and the money, reading every column once."""
        schema, rows = self.schema, check.rows
        n_paid, overlap = len(schema.channels), Overlap(rows)
        values = np.empty((rows, len(schema.nodes)), np.float32) if keep else None
        apart = any(c.exposure is not None for c in schema.channels.values())
        spend = values[:, :n_paid] if values is not None else None
        if keep and apart:
            spend = np.full((rows, n_paid), np.nan, np.float32)
        policy = self.policies["channels"]
        for j, (name, channel) in enumerate(schema.channels.items()):
            money = self._column(check, channel.spend, Rule("spend", policy, NEGATIVE_SPEND))
            shown = self._column(
                check, channel.exposure, Rule("exposure", policy, NEGATIVE_EXPOSURE)
            )
            if channel.exposure is not None:
                self._compare_money(check, name, money, shown)
            fed, column = (shown, channel.exposure) if channel.exposure else (money, channel.spend)
            if fed is not None and column is not None:
                check.doubt_constant(fed, column, f"Channel '{name}'", "channel")
                overlap.note(fed, column, f"Channel '{name}'", channel=True)
            if values is not None and fed is not None:
                values[:, j] = fed
            if spend is not None and apart and money is not None:
                spend[:, j] = money
        others = (
            [
                (c, Rule("organic channel", self.policies["organic"], NEGATIVE_EXPOSURE))
                for c in schema.organic
            ]
            + [(c, Rule("mediator", self.policies["mediators"])) for c in schema.mediators]
            + [(schema.target, Rule("target", self.policies["target"], NEGATIVE_TARGET))]
        )
        for j, (column, rule) in enumerate(others, start=n_paid):
            found = self._column(check, column, rule)
            if found is None:
                continue
            kind = "target" if rule.role == "target" else "series"
            kind = "channel" if rule.role == "organic channel" else kind
            what = f"{rule.role[0].upper()}{rule.role[1:]} '{column}'"
            check.doubt_constant(found, column, what, kind)
            overlap.note(found, column, what, channel=kind == "channel")
            if values is not None:
                values[:, j] = found
        check.findings += overlap.findings()
        return values, spend

    def _column(self, check: ColumnCheck, column: str | None, rule: Rule) -> Column | None:
        if column is None or column not in self.source.names:
            return None
        return check.read(self.source.column(column), column, rule)

    def _plain(
        self, check: ColumnCheck, names: list[str], role: str, policy: str, keep: bool
    ) -> Column | None:
        block = np.empty((check.rows, len(names)), np.float32) if keep else None
        for j, name in enumerate(names):
            found = self._column(check, name, Rule(role, self.policies[policy], flags=True))
            if found is None:
                continue
            check.doubt_constant(found, name, f"{role[0].upper()}{role[1:]} '{name}'", role)
            if block is not None:
                block[:, j] = found
        return block

    def _context(self, check: ColumnCheck, keep: bool) -> Column | None:
        """float32 [S, C] when every column is fixed within every store, else [rows, C]."""
        rule = Rule("context", self.policies["context"], flags=True)
        columns: list[Column] = []
        moving: dict[str, NDArray[np.bool_]] = {}
        for name in self.schema.context:
            found = self._column(check, name, rule)
            if found is None:
                continue
            columns.append(found)
            least, most = check.span(found)
            if (least < most).any() and check.layout is not None:
                moving[name] = least < most
        for name, where in moving.items():
            self._report_moving(check, name, where)
        if not keep or check.layout is None:
            return None
        starts = check.layout.offsets[:-1]
        moves = bool(moving) if self.schema.context_moves is None else self.schema.context_moves
        rows = check.rows if moves else len(starts)
        block = np.empty((rows, len(columns)), np.float32)
        for j, column in enumerate(columns):
            block[:, j] = column if moves else column[starts]
        return block

    def _report_moving(self, check: ColumnCheck, name: str, where: NDArray[np.bool_]) -> None:
        declared = self.schema.context_moves
        if declared is True or check.layout is None:
            return
        n, share = int(where.sum()), float(where.mean())
        store = str(check.layout.stores[int(np.flatnonzero(where)[0])])
        few = declared is None and share < 0.05
        severity: Severity = "error" if declared is False else "warning" if few else "notice"
        check.findings.append(
            Finding(
                severity,
                "context-moves",
                f"Context '{name}' changes in time in {n} of {len(where)} stores, first in store "
                f"'{store}'"
                + (
                    ", though the schema says it does not."
                    if severity == "error"
                    else "; it is read as one value per store and date."
                ),
                ""
                if severity == "notice"
                else "Correct the values, so that each store has one; "
                "or write context_moves: true.",
                column=name,
                store=store,
                rows=n,
            )
        )

    def _revenue(self, check: ColumnCheck) -> Column | None:
        rule = Rule("revenue per target", "required", ("negative-revenue", "error"))
        return self._column(check, self.schema.revenue_per_target, rule)

    def _population(self, check: ColumnCheck) -> Column | None:
        name = self.schema.population
        found = self._column(
            check, name, Rule("population", "required", ("negative-population", "error"))
        )
        if found is None or check.layout is None:
            return None
        least, most = check.span(found)
        different = np.flatnonzero(least < most)
        if len(different):
            store = str(check.layout.stores[different[0]])
            check.findings.append(
                Finding(
                    "error",
                    "population-moves",
                    f"Population '{name}' changes within {counted(len(different), 'store')}, "
                    f"first '{store}'.",
                    "Give each store one value, or declare the column as context.",
                    column=name,
                    store=store,
                    rows=len(different),
                )
            )
        return most

    def _compare_money(
        self, check: ColumnCheck, name: str, money: Column | None, shown: Column | None
    ) -> None:
        if money is None or shown is None:
            return
        check._add(
            np.flatnonzero((money > 0) & (shown == 0)),
            "warning",
            "spend-without-exposure",
            name,
            f"Channel '{name}' " + "has spend but no exposure in {n} of {where}, first {date}.",
            "Check that spend and exposure are booked on the same dates.",
        )


def _refuse(code: str, message: str, remedy: str) -> None:
    raise PanelError([Finding("error", code, message, remedy)])
