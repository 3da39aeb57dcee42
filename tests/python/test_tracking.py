"""Epochs reach TensorBoard and MLflow by the calls that their packages have."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from causalmmm.engine.training.checkpoint import EpochReport
from causalmmm.tracking import MLflow, TensorBoard

FIRST = EpochReport(1, 2, 30.0, float("nan"), 2.0, 0.5, 900.0)
SECOND = EpochReport(2, 2, 20.0, 21.0, 1.0, 0.4, 950.0)


def module(name: str, monkeypatch: pytest.MonkeyPatch, **contents: Any) -> None:
    stand_in = ModuleType(name)
    vars(stand_in).update(contents)
    monkeypatch.setitem(sys.modules, name, stand_in)


def test_mlflow_gets_the_metrics_of_every_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    logged: list[tuple[dict[str, float], int]] = []
    log = lambda metrics, step: logged.append((metrics, step))  # noqa: E731
    module("mlflow", monkeypatch, log_metrics=log)
    track = MLflow()
    for report in (FIRST, SECOND):
        track(report)
    measured = {"train": 30.0, "kl_edges": 2.0, "gradient_norm": 0.5, "stores_per_second": 900.0}
    assert logged[0] == (measured, 1)  # there is no validation loss yet
    assert (logged[1][0]["validation"], logged[1][1]) == (21.0, 2)


def test_tensorboard_gets_a_point_of_every_curve(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    points: list[tuple[str, float, int]] = []
    writer = SimpleNamespace(
        add_scalar=lambda *point: points.append(point), flush=lambda: points.append(("flushed",))
    )

    def open_writer(directory: str) -> SimpleNamespace:
        assert directory == str(tmp_path)
        return writer

    module("torch.utils.tensorboard", monkeypatch, SummaryWriter=open_writer)
    TensorBoard(tmp_path)(SECOND)
    assert ("validation", 21.0, 2) in points
    assert points[-1] == ("flushed",)
    assert len(points) == 6


@pytest.mark.parametrize(
    ("kind", "name"), [(MLflow, "mlflow"), (TensorBoard, "torch.utils.tensorboard")]
)
def test_a_missing_package_is_named(
    kind: Any, name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ImportError, match="run pip install"):
        kind(*([tmp_path] if kind is TensorBoard else []))
