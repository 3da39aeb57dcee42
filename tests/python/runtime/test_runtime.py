"""An exported file gives the model's answers without torch, and refuses what it cannot answer."""

from __future__ import annotations

import base64
import json
import os
import pickle
import shutil
import subprocess
import sys
import textwrap
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from causalmmm import CausalMMM, ModelError, Panel, PanelError, Schema

onnx = pytest.importorskip("onnx", reason="needs the optional extra onnx")
pytest.importorskip("onnxruntime", reason="needs the optional extra runtime")
pytest.importorskip("holidays", reason="holiday calendars are an optional extra")

from causalmmm.model.onnx_export import TOLERANCE, differences  # noqa: E402
from causalmmm.runtime import OnnxModel  # noqa: E402
from causalmmm.runtime.feeds import feeds  # noqa: E402

SCHEMA = Schema(
    store="shop",
    date="day",
    target="sales",
    channels={"tv": "tv", "web": "web", "print": "print"},
    mediators=["visits"],
    controls=[{"name": "price", "future_known": True}, "weather"],
    context=["size", "trend"],
    context_moves=True,
)
HORIZON = 60
ROOT = Path(__file__).parents[3]
NODE_MODULES = Path(
    os.environ.get("CAUSALMMM_NODE_MODULES", ROOT / "build" / "node" / "node_modules")
)


def draw(lengths: list[int], seed: int = 0, size: float = 1.0, first: str = "2023-05-03") -> Panel:
    """Stores of several lengths with controls, and context that moves."""
    rng = np.random.default_rng(seed)
    rows, stores = sum(lengths), len(lengths)
    values = np.exp(0.4 * rng.standard_normal((rows, 5))) * [20, 50, 5, 300, 900]
    values[:, 2] *= rng.random(rows) < 0.4  # print is bought on some days only
    values *= size * np.exp(rng.standard_normal(stores)).repeat(lengths)[:, None]
    context = rng.standard_normal((stores, 2)).repeat(lengths, 0)
    context += 0.1 * rng.standard_normal((rows, 2))
    return Panel.from_arrays(
        values,
        schema=SCHEMA,
        first_date=first,
        freq="D",
        lengths=lengths,
        start=max(lengths) - np.array(lengths),
        controls=rng.standard_normal((rows, 2)),
        context=context,
    )


def plan_for(panel: Panel, steps: int) -> pd.DataFrame:
    """Twice the usual spend on tv, and prices, for the days after each history."""
    rng = np.random.default_rng(5)
    days = panel.data.grid[-1] + np.arange(1, steps + 1)
    return pd.DataFrame(
        {
            "shop": np.repeat(panel.stores, steps),
            "day": np.tile(days.astype("datetime64[ns]"), panel.n_stores),
            "tv": np.tile(40.0 * rng.random(steps), panel.n_stores),
            "price": rng.standard_normal(steps * panel.n_stores),
        }
    )


@dataclass(frozen=True)
class Exported:
    model: CausalMMM
    path: Path
    file: OnnxModel


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    model = CausalMMM(
        structure="learned",
        epochs=6,
        hidden=16,
        horizon=7,
        draws=40,
        window=400,
        seed=3,
        holidays="US",
        device="cpu",
    )
    model.fit(draw([120] * 24), progress=False)
    path = model.export_onnx(tmp_path_factory.mktemp("onnx") / "model.onnx", max_horizon=HORIZON)
    return Exported(model, path, OnnxModel(path, threads=1))


def worst(exported: Exported, panel: Panel) -> float:
    return max(differences(exported.model, exported.path, panel).values())


@pytest.mark.parametrize("lengths", [[30], [31, 75, 75, 180, 400], [1000, 650]])
def test_all_answers_are_the_models_for_any_length(exported: Exported, lengths: list[int]) -> None:
    assert worst(exported, draw(lengths, seed=len(lengths))) < TOLERANCE


@pytest.mark.parametrize("size", [1e-6, 1e9])
def test_all_answers_are_the_models_for_extreme_amounts(exported: Exported, size: float) -> None:
    assert worst(exported, draw([90, 90], seed=8, size=size)) < TOLERANCE


@pytest.mark.parametrize(
    "ablations",
    [
        {"structure": "learned", "prototypes": 1, "store_effects": False, "carryover": False},
        {"structure": "learned", "lags": 0, "raw_window": 40},
        {"structure": "evidence"},
        {"structure": "full", "saturation": False},
        {"structure": "empty"},
    ],
    ids=lambda ablations: " ".join(f"{name}={value}" for name, value in ablations.items()),
)
def test_all_answers_of_an_ablated_model_are_its_own(
    ablations: dict[str, Any], tmp_path: Path
) -> None:
    """Several at once where they do not undo each other: an export takes seconds."""
    model = CausalMMM(epochs=2, hidden=8, horizon=5, draws=12, seed=1, device="cpu", **ablations)
    model.fit(draw([60] * 20), progress=False)
    path = model.export_onnx(tmp_path / "model.onnx", max_horizon=5)
    assert max(differences(model, path, draw([70, 45, 70], seed=3)).values()) < TOLERANCE


def test_all_answers_are_the_models_for_odd_series(exported: Exported) -> None:
    """Silent, constant, negative and spiky series."""
    panel = draw([100] * 4, seed=9)
    values = panel.data.values
    values[:100, 0] = 0.0
    values[100:200, 1] = 7.0
    values[200:300, 4] -= values[200:300, 4].mean()
    values[350, 3] *= 1000.0
    assert worst(exported, panel) < TOLERANCE


def test_other_days_and_longer_horizons_are_the_models(exported: Exported) -> None:
    model, file = exported.model, exported.file
    for first, steps in (("2019-02-20", 1), ("2027-12-01", HORIZON)):
        panel = draw([80, 80], seed=4, first=first)
        ours, theirs = (m.predict(panel, horizon=steps) for m in (model, file))
        pd.testing.assert_frame_equal(ours, theirs, rtol=1e-3, check_exact=False)
        size = np.repeat([panel.data.values[:80].mean(0), panel.data.values[80:].mean(0)], steps)
        assert (np.abs(ours["mean"] - theirs["mean"]) <= TOLERANCE * size).all()


def test_a_plan_and_known_controls_count_as_in_the_model(exported: Exported) -> None:
    panel = draw([90] * 3, seed=6)
    plan = plan_for(panel, 9)
    ours, theirs = (m.predict(panel, plan=plan) for m in (exported.model, exported.file))
    pd.testing.assert_frame_equal(ours, theirs, rtol=1e-3, check_exact=False)
    tv = theirs[theirs["series"] == "tv"]
    np.testing.assert_allclose(tv["mean"], plan["tv"], rtol=1e-5)
    free = exported.file.predict(panel, horizon=9)
    assert not np.allclose(free["mean"], theirs["mean"], rtol=1e-3)


def test_frames_have_the_models_names_order_and_types(exported: Exported) -> None:
    panel = draw([60, 45, 60, 30], seed=2)
    for question in ("graphs", "predict", "decompose"):
        ours, theirs = (getattr(m, question)(panel) for m in (exported.model, exported.file))
        assert list(ours.columns) == list(theirs.columns)
        assert (ours.dtypes == theirs.dtypes).all()
        labels = ours.select_dtypes(exclude="float").columns
        pd.testing.assert_frame_equal(ours[labels], theirs[labels])


def test_an_answer_depends_on_no_other_store(exported: Exported) -> None:
    panel = draw([60, 45, 60, 30], seed=2)
    together = exported.file.predict(panel)
    for store in panel.stores:
        alone = exported.file.predict(panel.select([store]))
        part = together[together["store"] == store].reset_index(drop=True)
        pd.testing.assert_frame_equal(alone, part, rtol=1e-4)


def test_threads_batches_and_copies_change_nothing(exported: Exported) -> None:
    panel = draw([50] * 7, seed=1)
    expected = exported.file.answer(panel, horizon=4)
    for other in (
        OnnxModel(exported.path, threads=3, batch=2),
        pickle.loads(pickle.dumps(exported.file)),
    ):
        for ours, theirs in zip(expected, other.answer(panel, horizon=4), strict=True):
            pd.testing.assert_frame_equal(ours, theirs, rtol=1e-4)


def test_contributions_sum_to_what_was_observed(exported: Exported) -> None:
    panel = draw([70, 70], seed=3)
    frame = exported.file.decompose(panel)
    total = frame.groupby(["store", "date"], sort=False)["value"].sum()
    observed = np.concatenate([panel.data.values[1:70, -1], panel.data.values[71:, -1]])
    np.testing.assert_allclose(total, observed, rtol=1e-4)


def test_input_is_refused_as_the_model_refuses_it(exported: Exported) -> None:
    panel = draw([60, 60])
    table = panel.to_frame()
    bad = table.rename(columns={"tv": "television"})
    other = Panel.from_frame(
        table, SCHEMA.model_copy(update={"controls": (), "context": ("size", "trend")})
    )
    for given in (bad, other, draw([60, 12]), table.assign(tv=-1.0)):
        messages = []
        for model in (exported.model, exported.file):
            with pytest.raises(PanelError) as refused:
                model.predict(given)
            messages.append(str(refused.value))
        assert messages[0] == messages[1]
    with pytest.raises(ValueError, match="larger max_horizon"):
        exported.file.predict(panel, horizon=HORIZON + 1)
    with pytest.raises(ValueError, match="reaches from 2000-01-01 to 2059-12-31, not to 2060-01-0"):
        exported.file.predict(draw([60], first="2059-11-01"), horizon=4)
    with pytest.raises(KeyError, match="no channel 'visits'"):
        exported.file.response_curves("visits", panel=panel)


def test_a_table_is_read_under_the_schema_of_the_file(exported: Exported) -> None:
    panel = draw([60, 60])
    table = panel.to_frame()
    pd.testing.assert_frame_equal(exported.file.predict(table), exported.file.predict(panel))


@pytest.mark.parametrize("cut", [10, 2000, -40])
def test_a_truncated_file_is_refused(exported: Exported, tmp_path: Path, cut: int) -> None:
    path = tmp_path / "cut.onnx"
    path.write_bytes(exported.path.read_bytes()[:cut])
    with pytest.raises(ModelError, match="cut off or damaged"):
        OnnxModel(path)


def test_a_changed_file_is_refused(exported: Exported, tmp_path: Path) -> None:
    content = bytearray(exported.path.read_bytes())
    path = tmp_path / "changed.onnx"
    for place in (len(content) // 3, len(content) // 2, content.rindex(b'"window"')):
        changed = content.copy()
        changed[place] ^= 1
        path.write_bytes(changed)
        with pytest.raises(ModelError) as refused:
            OnnxModel(path)
        assert {f.code for f in refused.value.report} <= {"tampered-model", "unreadable-model"}


def test_a_foreign_or_newer_file_is_refused(exported: Exported, tmp_path: Path) -> None:
    path = tmp_path / "other.onnx"
    onnx.save(
        onnx.helper.make_model(
            onnx.parser.parse_graph("other (float[2] x) => (float[2] y) { y = Abs(x) }"),
            opset_imports=[onnx.helper.make_opsetid("", 18)],
            ir_version=10,
        ),
        path,
    )
    with pytest.raises(ModelError, match="not one that causalmmm exported"):
        OnnxModel(path)
    path.write_text("hello")
    with pytest.raises(ModelError, match="no ONNX model"):
        OnnxModel(path)
    with pytest.raises(ModelError, match="There is no file"):
        OnnxModel(tmp_path / "nothing.onnx")


def test_the_file_says_what_it_is_and_nothing_of_where_it_was_made(exported: Exported) -> None:
    info = exported.file.info
    assert info["nodes"] == ["tv", "web", "print", "visits", "sales"]
    assert info["trained_on"]["stores"] == 24
    assert info["schema"]["target"] == "sales"
    assert len(info["run"]) == 32
    content = exported.path.read_bytes()
    for place in (str(Path.cwd()), str(Path(__file__).parent), "site-packages", ".py"):
        assert place.encode() not in content
    assert len(content) < 5e6


def test_the_graph_is_standard_and_its_shapes_can_be_inferred(exported: Exported) -> None:
    model = onnx.load(exported.path)
    onnx.checker.check_model(model, full_check=True)
    inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True)
    assert {used.domain for used in model.opset_import} == {""}
    assert not model.functions
    assert all(value.type.tensor_type.elem_type for value in inferred.graph.value_info)
    wide = {"batch", "time", "horizon", "level", "point"}
    assert wide == {
        dimension.dim_param
        for value in model.graph.input
        for dimension in value.type.tensor_type.shape.dim
        if dimension.dim_param
    }


def test_exporting_again_gives_the_same_bytes(exported: Exported, tmp_path: Path) -> None:
    again = exported.model.export_onnx(tmp_path / "again.onnx", max_horizon=HORIZON)
    assert again.read_bytes() == exported.path.read_bytes()


def test_bad_arguments_are_refused_before_anything_is_written(
    exported: Exported, tmp_path: Path
) -> None:
    for arguments in ({"opset": 9}, {"draws": 0}, {"max_horizon": 0}):
        with pytest.raises(ValueError, match=next(iter(arguments))):
            exported.model.export_onnx(tmp_path / "never.onnx", **arguments)
    assert not list(tmp_path.iterdir())


def isolated(code: str, *arguments: object) -> str:
    """Run Python in a process in which nothing but the runtime's own needs can be imported."""
    blocked = """
        import sys
        class Blocker:
            def find_spec(self, name, path=None, target=None):
                if name.split(".")[0] in BLOCKED:
                    raise ImportError(f"{name} is not here")
        sys.meta_path.insert(0, Blocker())
    """
    text = textwrap.dedent(blocked).replace("BLOCKED", "('torch', 'triton', 'onnx')")
    done = subprocess.run(
        [sys.executable, "-c", text + textwrap.dedent(code), *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_runtime_needs_no_torch(exported: Exported, tmp_path: Path) -> None:
    panel = draw([40, 40])
    panel.to_frame().to_csv(tmp_path / "panel.csv", index=False)
    code = """
        import json
        from causalmmm.runtime import OnnxModel
        model = OnnxModel(sys.argv[1])
        frame = model.predict(sys.argv[2], horizon=3)
        assert "torch" not in sys.modules
        print(json.dumps(frame["mean"].tolist()))
    """
    means = json.loads(isolated(code, exported.path, tmp_path / "panel.csv"))
    np.testing.assert_allclose(means, exported.file.predict(panel, horizon=3)["mean"], rtol=1e-4)


def test_importing_the_runtime_imports_numpy_and_onnxruntime_alone() -> None:
    """What keeps a start short (bench/system/runtime.py says how short)."""
    code = """
        import json
        before = set(sys.modules)
        from causalmmm.runtime import OnnxModel
        tops = {name.split(".")[0] for name in set(sys.modules) - before}
        print(json.dumps(sorted(tops - set(sys.stdlib_module_names))))
    """
    assert json.loads(isolated(code)) == ["causalmmm", "numpy", "onnxruntime"]


def test_export_without_onnx_says_what_to_install(
    exported: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(ImportError, match=r"pip install 'causalmmm\[onnx\]'"):
        exported.model.export_onnx(tmp_path / "model.onnx")


@pytest.mark.parametrize("level", ["DISABLE_ALL", "ENABLE_BASIC", "ENABLE_EXTENDED", "ENABLE_ALL"])
def test_every_level_of_optimisation_gives_the_same_numbers(exported: Exported, level: str) -> None:
    """A body whose shapes nobody has inferred is refused only when the graph runs unoptimised."""
    import onnxruntime

    panel = draw([75, 75], seed=7)
    inputs = feeds(
        panel,
        np.arange(2),
        window=exported.file.window,
        steps=5,
        levels=(80.0,),
        points=3,
        contributions=True,
    )
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, f"ORT_{level}")
    session = onnxruntime.InferenceSession(exported.path.read_bytes(), options)
    answers = session.run(None, {name: inputs[name] for name in exported.file.inputs})
    expected = exported.file._session.run(
        None, {name: inputs[name] for name in exported.file.inputs}
    )
    for ours, theirs in zip(answers, expected, strict=True):
        size = float(np.abs(theirs).max())
        np.testing.assert_allclose(ours, theirs, rtol=TOLERANCE, atol=TOLERANCE * size)


def test_onnxruntime_web_gives_the_same_numbers(exported: Exported, tmp_path: Path) -> None:
    """Another runtime, in another language: `tests/foreign/infer.mjs` under Node.js."""
    node = shutil.which("node")
    if node is None:
        pytest.skip("Node.js is not installed")
    if not (NODE_MODULES / "onnxruntime-web").is_dir():
        pytest.skip("onnxruntime-web is not installed: make foreign-check installs it")
    file, panel = exported.file, draw([60, 60, 60], seed=7)
    given = feeds(
        panel, np.arange(3), window=file.window, steps=9, levels=(80, 95), points=5,
        contributions=True,
    )  # fmt: skip
    given = {name: given[name] for name in file.inputs}
    packed = {
        name: {
            "type": str(array.dtype),
            "dims": array.shape,
            "data": base64.b64encode(np.ascontiguousarray(array).tobytes()).decode(),
        }
        for name, array in given.items()
    }
    inputs, outputs = tmp_path / "inputs.json", tmp_path / "outputs.json"
    inputs.write_text(json.dumps(packed))
    script = ROOT / "tests" / "foreign" / "infer.mjs"
    done = subprocess.run(
        [node, script, NODE_MODULES, file.path, inputs, outputs],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(outputs.read_text())
    expected = file.run(given, list(found))
    assert len(found) == 11
    for name, said in found.items():
        values = np.frombuffer(base64.b64decode(said["data"]), np.float32).reshape(said["dims"])
        size = np.abs(expected[name]).max()
        np.testing.assert_allclose(values, expected[name], rtol=1e-4, atol=1e-4 * size)
