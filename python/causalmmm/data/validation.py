"""All checks between a table and a panel, in order, collected in one report.

A pass over the table is in ``table_check``; here are what comes before it (source, schema and
policies) and further passes without stores that have errors. Nothing is dropped or filled without a
finding.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from causalmmm.data.columns import POLICIES
from causalmmm.data.gaps import Gaps
from causalmmm.data.guess import is_key
from causalmmm.data.keys import without_stores
from causalmmm.data.readers import Policies, Readable, open_source
from causalmmm.data.schema import Schema
from causalmmm.data.table_check import Checked, TableCheck
from causalmmm.findings import Finding, PanelError, Report, counted, first_few, refusal

POLICY_ROLES = ("channels", "organic", "mediators", "target", "controls", "context")


def validate(
    data: Readable,
    schema: Schema | Mapping[str, Any] | None = None,
    *,
    nan: Policies = None,
    min_steps: int = 8,
    gaps: str = "error",
    business_days: bool = False,
) -> Report:
    """Check a table, a file or a folder of files, and report all findings.

    Never raises for errors in the data; see ``Panel.from_frame`` for the arguments.

    >>> frame = panel.to_frame()
    >>> frame.loc[3, "gmv"] = float("nan")
    >>> [finding.column for finding in validate(frame, panel.schema).errors]
    ['gmv']
    """
    return check_table(
        data,
        schema,
        nan=nan,
        min_steps=min_steps,
        gaps=gaps,
        business_days=business_days,
        keep=False,
    ).report


def check_table(
    data: Readable,
    schema: Schema | Mapping[str, Any] | None,
    *,
    nan: Policies = None,
    min_steps: int = 8,
    gaps: str = "error",
    business_days: bool = False,
    keep: bool = True,
    skip_bad_stores: bool = False,
) -> Checked:
    """Check a table and, with ``keep``, return its content if there are no errors.

    With ``skip_bad_stores`` errors of single stores leave these out, with a warning.
    """
    findings: list[Finding] = []
    try:
        policies = check_policies(nan)
        closing = Gaps(gaps, business_days)
        roles = None if schema is None else Schema.check(schema)
        keys = () if roles is None else (roles.store, roles.date)
        source = open_source(data, is_key if roles is None else keys.__contains__)
        if not source.rows:
            message = "The table has a header but no rows."
            raise refusal("no-rows", message, "Export the table again.", kind=PanelError)
        if roles is None:
            roles, findings = Schema.guess(source)
    except PanelError as error:
        return Checked(Report.of([*findings, *error.report]), None)
    left_out: dict[str, list[str]] = {}  # code of the error -> stores
    while True:
        checked = TableCheck(source, roles, policies, findings, closing).run(min_steps, keep)
        bad = {name for found in checked.report.errors for name in found.stores}
        if not skip_bad_stores or roles.store is None or not bad:
            break
        for found in checked.report.errors:
            left_out.setdefault(found.code, []).extend(found.stores)
        source = without_stores(source, roles.store, roles.date, bad)
        if not source.rows:  # all of them: say what is wrong, not that nothing is left
            return checked
    if left_out:
        told = Report.of([_stores_left_out(left_out), *checked.report])
        checked = Checked(told, checked.content)
    return checked


def _stores_left_out(reasons: Mapping[str, list[str]]) -> Finding:
    names = tuple(dict.fromkeys(name for stores in reasons.values() for name in stores))
    why = "; ".join(f"{code} ({first_few(stores, 5)})" for code, stores in reasons.items())
    return Finding(
        "warning",
        "stores-left-out",
        f"{counted(len(names), 'store')} left out: {why}.",
        "Validate the table to see the details, and correct it to have them back.",
        store=names[0],
        stores=tuple(sorted(names)),
    )


def check_policies(nan: Policies) -> dict[str, str]:
    """The policy for missing values of every role, from one word or a mapping."""
    asked: dict[Any, Any] = {}
    if isinstance(nan, Mapping):
        asked = dict(nan)
    elif nan is not None:
        asked = dict.fromkeys(POLICY_ROLES, nan)
    findings = []
    policies = dict.fromkeys(POLICY_ROLES, "error")
    for role, policy in asked.items():
        word = "zero" if policy == 0 and policy is not False else policy
        if role not in POLICY_ROLES or word not in POLICIES:
            findings.append(
                Finding(
                    "error",
                    "unknown-policy",
                    f"Unknown policy for missing values: 'nan: {{{role}: {policy}}}'.",
                    f"Roles are {', '.join(POLICY_ROLES)}; policies are {', '.join(POLICIES)}.",
                    column=str(role),
                )
            )
        else:
            policies[role] = word
    if findings:
        raise PanelError(findings)
    return policies
