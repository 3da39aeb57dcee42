"""Progress of training: on a terminal a bar with losses, rate and time left, else plain lines."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from causalmmm.engine.training.checkpoint import EpochReport

_LINES = 10  # without a terminal: about as many lines as this, however long the run


@contextmanager
def training_progress(*, enabled: bool) -> Iterator[Callable[[EpochReport], None]]:
    """A function to call with every ``EpochReport``; silent when not ``enabled``."""
    if not enabled:
        yield lambda report: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda report: _line(console.print, report)
        return
    columns = (
        TextColumn("fit"),
        BarColumn(),
        TextColumn("epoch {task.completed}/{task.total}"),
        TextColumn("{task.fields[losses]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as progress:
        task = progress.add_task("fit", total=None, losses="")

        def show(report: EpochReport) -> None:
            progress.update(
                task, completed=report.epoch, total=report.epochs, losses=_losses(report)
            )

        yield show


def _line(write: Callable[[str], None], report: EpochReport) -> None:
    every = max(1, report.epochs // _LINES)
    if report.epoch % every == 0 or report.epoch == 1:
        write(f"epoch {report.epoch}/{report.epochs}  {_losses(report)}")


def _losses(report: EpochReport) -> str:
    held_out = "" if math.isnan(report.validation) else f"held-out {report.validation:.2f}  "
    return (
        f"loss {report.train:.2f}  {held_out}(nats per store)  "
        f"gradient {report.gradient_norm:.2g}  {report.stores_per_second:,.0f} stores/s"
    )
