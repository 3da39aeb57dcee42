"""A traced model is the model, also where its matrices are large."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from small import alike
from torch import Tensor

from causalmmm.engine.evidence.ard import ard_evidence
from causalmmm.engine.nn.baseline import CalendarBaseline
from causalmmm.engine.nn.model import CausalModel
from causalmmm.engine.nn.posterior import edge_log_prior
from causalmmm.engine.spec.calendar import Calendar, CalendarSpec
from causalmmm.engine.spec.config import ModelConfig
from causalmmm.model.onnx_export import TOLERANCE
from causalmmm.simulation import simulate

onnx = pytest.importorskip("onnx", reason="needs the optional extra onnx")
onnxruntime = pytest.importorskip("onnxruntime", reason="needs the optional extra runtime")

from causalmmm.engine.export.build import build as export  # noqa: E402
from causalmmm.engine.export.build import trace  # noqa: E402
from causalmmm.engine.export.graph import ExportedCalendar, ExportedModel  # noqa: E402


@pytest.mark.parametrize("freq", ["D", "W-MON", "MS"])
def test_exported_calendars_are_the_calendars(freq: str) -> None:
    pytest.importorskip("holidays", reason="holiday calendars are an optional extra")
    unit = {"D": "D", "W-MON": "D", "MS": "M"}[freq]
    step = 7 if freq == "W-MON" else 1
    for first in ("2003-12-29", "2024-01-01", "2031-09-01"):
        grid = (np.datetime64(first, unit) + step * np.arange(240)).astype("datetime64[D]")
        for country in (None, "US"):
            spec = CalendarSpec(freq, yearly=3, country=country)
            expected = Calendar(spec, grid).rows(np.arange(240)[None])
            days = torch.from_numpy(grid.astype(np.int64))[None]
            exported = ExportedCalendar(spec)(days, torch.arange(240.0) - 239)
            torch.testing.assert_close(exported, torch.from_numpy(expected), rtol=1e-6, atol=1e-6)


def test_sixty_four_series_in_another_opset_give_the_same_numbers(tmp_path: Path) -> None:
    """Matrices of 448 lagged series; horizon, level, points and stores of length one."""
    nodes = 64
    torch.manual_seed(0)
    positive = torch.zeros(nodes, nodes, dtype=torch.bool)
    positive[:60, 60:] = True
    spec = CalendarSpec("D", yearly=1)
    settings = ModelConfig(hidden=8, yearly=1, decays=(0.1, 0.6), delays=(0, 2))
    prior = edge_log_prior(torch.full((nodes, nodes), 0.05))
    model = CausalModel(settings, spec.groups, 0, positive, prior, positive.any(1))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.03 * torch.randn_like(parameter))
    choices = {"window": 300, "draws": 6, "seed": 1, "horizon": 9}
    proto = export(model.eval(), spec, opset=21, **choices)
    assert [used.version for used in proto.opset_import] == [21]
    session = onnxruntime.InferenceSession(proto.SerializeToString())
    module = ExportedModel(model, spec, **choices).eval()
    rng = np.random.default_rng(0)
    for stores, steps, horizon, levels, points in ((2, 200, 9, 2, 3), (1, 40, 1, 1, 1)):
        history = np.exp(0.5 * rng.standard_normal((stores, steps, nodes))).astype("f4")
        days = np.broadcast_to(19_000 + np.arange(steps + horizon), (stores, steps + horizon))
        plan = np.full((stores, horizon, nodes), np.nan, "f4")
        plan[0, :, 0] = 1000 * history[0, :, 0].max()  # beyond all that was seen
        inputs = {
            "history": history,
            "date": days[:, :steps],
            "future_date": days[:, steps:],
            "plan": plan,
            "level": np.linspace(0.5, 0.9, levels, dtype="f4"),
            "amounts": rng.random((stores, points, nodes), dtype="f4"),
        }
        names = [value.name for value in session.get_outputs()]
        exported = session.run(names, {**inputs, "with_contributions": np.array(True)})
        tensors = {name: torch.from_numpy(np.array(x)) for name, x in inputs.items()}
        with torch.no_grad():
            expected = module(tensors)
        for name, values in zip(names, exported, strict=True):
            size = float(expected[name].abs().max())
            np.testing.assert_allclose(
                values, expected[name].numpy(), rtol=1e-4, atol=1e-4 * size, err_msg=name
            )


class Alone(torch.nn.Module):
    """What a calendar leaves of N series, and what each store alone says of their edges."""

    def __init__(self, nodes: int, groups: tuple[str, ...]) -> None:
        super().__init__()
        self.baseline = CalendarBaseline(nodes, groups)
        self.unsigned = torch.zeros(nodes, nodes, dtype=torch.bool)

    def forward(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        x, basis = inputs["x"], inputs["basis"]
        seen = torch.ones_like(basis[..., 0]) > 0
        residual = self.baseline(x, self.baseline.project(basis, seen))[1]
        running = torch.ones_like(x)
        factor = ard_evidence(residual, residual, running, seen, self.unsigned, 7)
        return {"residual": residual, "factor": factor}


def simulated() -> Tensor:
    panel, _ = simulate("paper-small", stores=16, steps=360, seed=0)
    x = panel.data.values.reshape(16, 360, -1).swapaxes(1, 2)
    return torch.from_numpy(x / np.abs(x).mean(-1, keepdims=True))


@pytest.mark.parametrize("series", [simulated, alike])
def test_evidence_of_a_store_alone_is_the_same_exported(series: Callable[[], Tensor]) -> None:
    """Neither library's rounding may decide, even where series move together."""
    spec, x = CalendarSpec("D", yearly=3), series().float()
    days = np.datetime64("2024-01-01") + np.arange(x.shape[-1])
    basis = torch.from_numpy(Calendar(spec, days).rows(np.arange(len(days))[None]))
    module = Alone(x.shape[1], spec.groups)
    given = {"x": x, "basis": basis.expand(len(x), -1, -1)}
    fewer = {"x": x[1:, :, 1:], "basis": given["basis"][1:, 1:]}
    axes = {"x": ("batch", "series", "time"), "basis": ("batch", "time", "term")}
    results = {"residual": axes["x"], "factor": ("batch", "source", "target")}
    graph = trace(module, given, fewer, axes, results)
    opset = onnx.helper.make_opsetid("", 18)
    proto = onnx.helper.make_model(graph, opset_imports=[opset], ir_version=8)
    onnx.checker.check_model(proto, full_check=True)
    session = onnxruntime.InferenceSession(proto.SerializeToString())
    found = session.run(None, {name: tensor.numpy() for name, tensor in given.items()})
    with torch.no_grad():
        residual, factor = module(given).values()
    np.testing.assert_allclose(found[0], residual.numpy(), atol=1e-5)
    np.testing.assert_allclose(found[1], factor.numpy(), atol=0.02, rtol=1e-3)
    probability = torch.from_numpy(found[1]).sigmoid()
    np.testing.assert_allclose(probability.numpy(), factor.sigmoid().numpy(), atol=TOLERANCE)
