"""``roi``, ``paths``, ``optimize``, ``next-experiment``, ``compare``, ``calibrate``: spend, and
where to put it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from causalmmm.cli.common import (
    ConfigOption,
    DataOption,
    ForceOption,
    FormatOption,
    HorizonOption,
    JsonOption,
    ModelArgument,
    OutOption,
    QuietOption,
    SetOption,
    StoreOption,
    model_and_panel,
    of_stores,
    terminal,
)
from causalmmm.cli.exported import AnsweringArgument, answering
from causalmmm.cli.output import (
    TABLES,
    checked_format,
    readable,
    write_answer,
    write_plan,
    write_table,
    wrote,
)
from causalmmm.findings import counted, first_few, rounded
from causalmmm.model.header import check_place

if TYPE_CHECKING:
    from causalmmm.config.configuration import DataConfig

StartOption = Annotated[str | None, typer.Option("--start", help="First date of the period.")]
EndOption = Annotated[str | None, typer.Option("--end", help="Last date of the period.")]
TotalOption = Annotated[bool, typer.Option("--total", help="All stores as one, not each.")]
GroupsOption = Annotated[
    Path | None,
    typer.Option(exists=True, dir_okay=False, help="Groups of stores: a table of store, group."),
]
BoundOption = Annotated[
    list[str] | None,
    typer.Option(
        "--bound",
        metavar="CHANNEL=LOW:HIGH",
        help="Total of a channel relative to the current plan, as in tv=0.8:1.2.",
    ),
]
BoundsOption = Annotated[
    Path | None,
    typer.Option(exists=True, dir_okay=False, help="Table of bounds: CSV or Parquet."),
]
BudgetOption = Annotated[
    float | None, typer.Option(min=0, help="Money in all; default: what the current plan has.")
]
PlanOption = Annotated[
    Path | None, typer.Option(exists=True, dir_okay=False, help="Current plan: CSV or Parquet.")
]


def roi(
    model: AnsweringArgument,
    store: StoreOption = None,
    start: StartOption = None,
    end: EndOption = None,
    total: TotalOption = False,
    groups: GroupsOption = None,
    data: DataOption = None,
    config: ConfigOption = None,
    overrides: SetOption = None,
    out: OutOption = None,
    format: FormatOption = None,
    force: ForceOption = False,
    quiet: QuietOption = False,
    json: JsonOption = False,
) -> None:
    """Return on spend by channel: outcome, ROI, marginal ROI, cost per unit, with 90 % intervals.

    Columns: store, channel, spend, spend_share, outcome, outcome_lower, outcome_upper,
    outcome_share, roi, roi_lower, roi_upper, mroi, mroi_lower, mroi_upper, cpik, effectiveness.

    \b
    causalmmm roi runs/a --total
    causalmmm roi runs/a --groups regions.csv
    causalmmm roi runs/a --start 2024-01-01 --end 2024-12-30 -o roi.csv
    causalmmm roi model.onnx --data data.csv --total
    """
    _effects("roi", model, store, start, end, total, groups, data, config, overrides, out,
             format, force, quiet, json)  # fmt: skip


def paths(
    model: AnsweringArgument,
    store: StoreOption = None,
    start: StartOption = None,
    end: EndOption = None,
    total: TotalOption = False,
    groups: GroupsOption = None,
    data: DataOption = None,
    config: ConfigOption = None,
    overrides: SetOption = None,
    out: OutOption = None,
    format: FormatOption = None,
    force: ForceOption = False,
    quiet: QuietOption = False,
    json: JsonOption = False,
) -> None:
    """What each channel brought, directly and through each mediator, with 90 % intervals.

    Columns: store, channel, path, mean, lower, upper. The paths of a channel sum to its total.

    \b
    causalmmm paths runs/a --total
    causalmmm paths runs/a --store north -o paths.csv
    causalmmm paths model.onnx --data data.csv
    """
    _effects("paths", model, store, start, end, total, groups, data, config, overrides, out,
             format, force, quiet, json)  # fmt: skip


def optimize(
    model: ModelArgument,
    horizon: HorizonOption = None,
    budget: BudgetOption = None,
    plan: PlanOption = None,
    bound: BoundOption = None,
    bounds: BoundsOption = None,
    groups: GroupsOption = None,
    quantile: Annotated[
        float | None, typer.Option(help="Maximise this quantile instead of the mean, as in 0.1.")
    ] = None,
    reach: Annotated[
        str | None,
        typer.Option(
            metavar="GOAL=NUMBER",
            help="A goal instead of a budget: outcome=50000, roi=2 or mroi=1.",
        ),
    ] = None,
    store: StoreOption = None,
    data: DataOption = None,
    config: ConfigOption = None,
    overrides: SetOption = None,
    out: Annotated[
        Path | None, typer.Option("-o", "--out", help="The plan, for 'compare', 'predict'.")
    ] = None,
    format: FormatOption = None,
    force: ForceOption = False,
    quiet: QuietOption = False,
    json: JsonOption = False,
) -> None:
    """The spend by store, channel and step that brings the most for a budget.

    Prints the change by channel; -o writes the plan: store, date, a column per channel.
    Columns printed: channel, current, spend, change, outcome_current, outcome, marginal, limit.
    Below them: what the plan gains over the current one, and the probability that it gains at all;
    a warning where that is below 90 %.

    Columns of --bounds, all optional but one of min and max: store (a store, a group or ALL),
    channel (or ALL), start, end, min, max, unit (money, or share of the current plan), per (words
    of store, channel, step: each by itself, not their sum). Those that bind are printed with their
    price: what one more unit of the budget there would add.

    \b
    causalmmm optimize runs/a --horizon 13 -o plan.csv
    causalmmm optimize runs/a --horizon 13 --budget 250000 --bound tv=0.8:1.2
    causalmmm optimize runs/a --horizon 13 --bounds bounds.csv --groups regions.csv -o plan.csv
    causalmmm optimize runs/a --horizon 13 --reach mroi=1 -o plan.csv
    """
    terminal.start(quiet=quiet, json=json)
    kind = checked_format(out, format, TABLES, force=force, json=json)
    goal = None if reach is None else _goal(reach)
    given = _bounds(bound, bounds)
    fitted, panel, written = model_and_panel(model, data, config, overrides, device=None)
    panel, current = of_stores(store, panel, plan and written.file(plan))
    limits = _limits(written, given, groups)
    with terminal.working(f"planning {counted(panel.n_stores, 'store')}"):
        found = fitted.optimize(
            horizon,
            budget,
            panel=panel,
            plan=current,
            **limits,
            quantile=quantile,
            reach=goal,
        )
    gain = found.gain
    told = (
        f"expected gain {rounded(gain['mean'])} (90 % interval {rounded(gain['lower'])} to "
        f"{rounded(gain['upper'])}; above zero with probability {100 * gain['better']:.0f} %)"
    )
    if out is None:
        write_table(found.channels, None, kind, force=force)
        return terminal.say(told)
    write_plan(found.plan, out, kind, written, force=force)
    terminal.say(readable(found.channels))
    binding = found.bounds[(found.bounds["limit"] != "") & (found.bounds["price"] != 0)]
    if len(binding):
        terminal.say(f"\nbounds that bind:\n{readable(binding)}")
    missing = [name for name in panel.schema.known_controls if name not in found.plan]
    if missing:
        terminal.say(f"for 'predict --plan' add what is known of {first_few(missing)} to {out}")
    terminal.say(told)
    return wrote(out, rows=len(found.plan), gain=gain)


def next_experiment(
    model: ModelArgument,
    horizon: HorizonOption = None,
    budget: BudgetOption = None,
    plan: PlanOption = None,
    bound: BoundOption = None,
    bounds: BoundsOption = None,
    groups: GroupsOption = None,
    steps: Annotated[
        int | None, typer.Option(min=1, help="Length of a test; default: 8 weeks or 28 days.")
    ] = None,
    error: Annotated[
        float | None,
        typer.Option(help="Standard error as a share of the lift; default: by the target's noise."),
    ] = None,
    store: StoreOption = None,
    data: DataOption = None,
    config: ConfigOption = None,
    overrides: SetOption = None,
    out: OutOption = None,
    format: FormatOption = None,
    force: ForceOption = False,
    quiet: QuietOption = False,
    json: JsonOption = False,
) -> None:
    """Which test of a channel would tell most about what the best plan brings.

    Tests hold back the current plan's spend in one store or in ALL; they are ranked by the share of
    the variance of the plan's gain that they would remove. Options of the budget as in 'optimize'.
    Columns: store, channel, start, end, spend, lift, lift_sd, lift_se, gain_sd, gain_sd_after,
    removed.

    \b
    causalmmm next-experiment runs/a --horizon 13
    causalmmm next-experiment runs/a --horizon 13 --steps 4 --bounds bounds.csv -o tests.csv
    """
    terminal.start(quiet=quiet, json=json)
    kind = checked_format(out, format, TABLES, force=force, json=json)
    given = _bounds(bound, bounds)
    fitted, panel, written = model_and_panel(model, data, config, overrides, device=None)
    panel, current = of_stores(store, panel, plan and written.file(plan))
    limits = _limits(written, given, groups)
    with terminal.working(f"planning {counted(panel.n_stores, 'store')}"):
        frame = fitted.next_experiment(
            horizon, budget, panel=panel, plan=current, **limits, steps=steps, error=error
        )
    return write_answer(frame, out, kind, force=force)


def compare(
    model: ModelArgument,
    plan: Annotated[
        list[Path], typer.Argument(exists=True, dir_okay=False, help="Plans; the first is base.")
    ],
    store: StoreOption = None,
    data: DataOption = None,
    config: ConfigOption = None,
    overrides: SetOption = None,
    out: OutOption = None,
    format: FormatOption = None,
    force: ForceOption = False,
    quiet: QuietOption = False,
    json: JsonOption = False,
) -> None:
    """Plans of spend side by side: what each brings beyond the first.

    Columns: plan, spend, spend_change, outcome_change, lower, upper, better.

    \b
    causalmmm compare runs/a current.csv plan.csv
    """
    terminal.start(quiet=quiet, json=json)
    kind = checked_format(out, format, TABLES, force=force, json=json)
    if len({path.stem for path in plan}) < len(plan):
        raise typer.BadParameter("two plans have the same file name; rename one")
    fitted, whole, written = model_and_panel(model, data, config, overrides, device=None)
    asked = {path.stem: of_stores(store, whole, written.file(path)) for path in plan}
    panel = next(iter(asked.values()))[0]
    frame = fitted.compare({name: planned for name, (_, planned) in asked.items()}, panel)
    return write_answer(frame, out, kind, force=force)


def calibrate(
    model: ModelArgument,
    experiments: Annotated[
        Path, typer.Argument(exists=True, dir_okay=False, help="Table of experiments.")
    ],
    out: Annotated[Path, typer.Option("-o", "--out", help="Model directory to write.")],
    data: DataOption = None,
    config: ConfigOption = None,
    overrides: SetOption = None,
    force: ForceOption = False,
    quiet: QuietOption = False,
    json: JsonOption = False,
) -> None:
    """Take measured lifts into a model: from then on its answers agree with them.

    Columns of the table: store (or ALL), channel, start, end, lift, lift_se; optional spend, scope
    (total, immediate), design (holdback, heavy-up, go-dark). Prints what the model says of each
    experiment before and after, and how far the two conflict.

    \b
    causalmmm calibrate runs/a experiments.csv -o runs/a-calibrated
    causalmmm roi runs/a-calibrated --total
    """
    terminal.start(quiet=quiet, json=json)
    check_place(out, force)
    fitted, panel, written = model_and_panel(model, data, config, overrides, None, device=None)
    frame = fitted.calibrate(written.file(experiments), panel)
    fitted.save(out, overwrite=force)
    if json:
        return wrote(out, experiments=frame.to_dict("records"))
    write_table(frame, None, "csv", force=force)
    return wrote(out)


def _effects(
    question: str,
    model: Path,
    store: list[str] | None,
    start: str | None,
    end: str | None,
    total: bool,
    groups: Path | None,
    data: Path | None,
    config: Path | None,
    overrides: list[str] | None,
    out: Path | None,
    format: str | None,
    force: bool,
    quiet: bool,
    json: bool,
) -> None:
    terminal.start(quiet=quiet, json=json)
    kind = checked_format(out, format, TABLES, force=force, json=json)
    if total and groups is not None:
        raise typer.BadParameter("pass --total or --groups; not both")
    fitted, panel, written = answering(model, question, data, config, overrides, store, device=None)
    by: Any = "total" if total else _groups(written, groups) or "store"
    with terminal.working(f"asking {counted(panel.n_stores, 'store')}"):
        ask: Any = getattr(fitted, question)
        frame = ask(panel, start=start, end=end, by=by)
    return write_answer(frame, out, kind, force=force)


def _bounds(bound: list[str] | None, table: Path | None) -> dict[str, Any] | Path:
    """Bounds of channels, or the table of them."""
    if bound and table is not None:
        raise typer.BadParameter("pass --bound or a table of --bounds; not both")
    return table or dict(map(_bound, bound or ()))


def _limits(
    written: DataConfig, bounds: dict[str, Any] | Path, groups: Path | None
) -> dict[str, Any]:
    """Bounds of a budget and their groups, as Python takes them."""
    given = written.file(bounds) if isinstance(bounds, Path) else bounds
    return {"bounds": given, "groups": _groups(written, groups)}


def _groups(written: DataConfig, table: Path | None) -> dict[str, str] | None:
    from causalmmm.data.records import read_groups

    return None if table is None else read_groups(written.file(table))


def _bound(text: str) -> tuple[str, tuple[float, float]]:
    name, _, ends = text.rpartition("=")
    low, _, high = ends.partition(":")
    try:
        return name, (float(low), float(high))
    except ValueError:
        message = f"a bound is CHANNEL=LOW:HIGH, as in tv=0.8:1.2, not '{text}'"
        raise typer.BadParameter(message) from None


def _goal(text: str) -> dict[str, float]:
    name, _, number = text.partition("=")
    try:
        return {name: float(number)}
    except ValueError:
        message = f"a goal is GOAL=NUMBER, as in mroi=1, not '{text}'"
        raise typer.BadParameter(message) from None
