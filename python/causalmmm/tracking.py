"""Epochs of a fit as TensorBoard or MLflow keep them: what ``fit(on_epoch=...)`` can be given.

Anything that takes an ``EpochReport`` does; neither package is needed unless it is used.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

from causalmmm.engine.training.checkpoint import EpochReport

_MEASURES = ("train", "validation", "kl_edges", "gradient_norm", "stores_per_second")


class TensorBoard:
    """Writes every epoch to event files in ``directory``.

    Example:
        >>> from causalmmm.tracking import TensorBoard
        >>> model.fit(panel, on_epoch=TensorBoard("runs/a"))  # doctest: +SKIP

    Raises ``ImportError`` without the package ``tensorboard``.
    """

    def __init__(self, directory: str | Path) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise ImportError(
                "TensorBoard needs the package tensorboard; run pip install tensorboard"
            ) from error
        self._writer = SummaryWriter(str(directory))

    def __call__(self, report: EpochReport) -> None:
        for name, value in _measured(report):
            self._writer.add_scalar(name, value, report.epoch)
        self._writer.flush()


class MLflow:
    """Logs every epoch as metrics of MLflow's active run, or of one that the first call starts.

    Example:
        >>> from causalmmm.tracking import MLflow
        >>> model.fit(panel, on_epoch=MLflow())  # doctest: +SKIP

    Raises ``ImportError`` without the package ``mlflow``.
    """

    def __init__(self) -> None:
        try:
            import mlflow
        except ImportError as error:
            raise ImportError(
                "MLflow needs the package mlflow; run pip install mlflow-skinny"
            ) from error
        self._log = mlflow.log_metrics

    def __call__(self, report: EpochReport) -> None:
        self._log(dict(_measured(report)), step=report.epoch)


def _measured(report: EpochReport) -> Iterator[tuple[str, float]]:
    """What was measured in an epoch; before the first validation there is no such loss."""
    for name in _MEASURES:
        value = getattr(report, name)
        if not math.isnan(value):
            yield name, value
