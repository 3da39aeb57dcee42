"""A saved model answers as it did, and a damaged one says what is wrong with it."""

from __future__ import annotations

import contextlib
import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import load_file, save_file

from causalmmm import CausalMMM, ModelError, load
from causalmmm.data.fingerprint import fingerprint
from causalmmm.model.header import digest, header_text
from causalmmm.model.parameters import parameters_from_json, parameters_to_json

if TYPE_CHECKING:
    from conftest import Fitted


@pytest.fixture
def saved(fitted: Fitted, tmp_path: Path) -> Path:
    return fitted.model.save(tmp_path / "model")


def edit(saved: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change the header as another version would have written it, with its digest."""
    path = saved / "model.json"
    header = json.loads(path.read_text())
    del header["digest"]
    change(header)
    path.write_text(header_text(header))


def edit_weights(saved: Path, change: Callable[[dict[str, np.ndarray]], None]) -> None:
    """Change the weights as another version would have written them, with their digest."""
    path = saved / "model.safetensors"
    weights = load_file(path)
    change(weights)
    save_file(weights, path)
    content = path.read_bytes()
    known = {"model.safetensors": {"bytes": len(content), "digest": digest(content)}}
    edit(saved, lambda header: header.update(files=known))


def test_a_loaded_model_gives_the_same_bits(fitted: Fitted, saved: Path) -> None:
    again = load(saved)
    panel = fitted.panel
    pd.testing.assert_frame_equal(again.graphs(panel), fitted.model.graphs(panel), check_exact=True)
    pd.testing.assert_frame_equal(
        again.predict(panel), fitted.model.predict(panel), check_exact=True
    )
    assert again.get_params() == fitted.model.get_params()
    assert again.trained_on_ == fitted.model.trained_on_
    assert again.warnings_ == fitted.model.warnings_
    pd.testing.assert_frame_equal(again.history_, fitted.model.history_)


def test_saving_a_loaded_model_changes_no_byte(saved: Path, tmp_path: Path) -> None:
    again = CausalMMM.load(saved).save(tmp_path / "again")
    for name in ("model.json", "model.safetensors"):
        assert (again / name).read_bytes() == (saved / name).read_bytes()


def test_a_model_directory_holds_two_files_and_no_data(fitted: Fitted, saved: Path) -> None:
    assert {p.name for p in saved.iterdir()} == {"model.json", "model.safetensors"}
    assert [p.name for p in saved.parent.iterdir()] == ["model"]
    with pytest.raises(ValueError, match="pass the panel"):
        load(saved).graphs()


def test_the_header_can_be_read_by_people_and_programs(fitted: Fitted, saved: Path) -> None:
    header = json.loads((saved / "model.json").read_text())
    assert header["nodes"] == ["x0", "x1", "x2", "pv", "gmv"]
    assert header["schema"]["target"] == "gmv"
    assert header["trained_on"]["stores"] == 12
    assert header["trained_on"]["fingerprint"] == fingerprint(fitted.panel.split(10)[0])
    assert header["parameters"]["seed"] == 5


def test_fingerprints_tell_panels_apart(fitted: Fitted) -> None:
    panel = fitted.panel
    other = panel.select(list(reversed(panel.stores.tolist())))
    assert fingerprint(panel) == fingerprint(panel.select(panel.stores.tolist()))
    assert fingerprint(panel) not in {fingerprint(other), fingerprint(panel.head(59))}


def test_pairs_survive_json() -> None:
    parameters = {
        "edge_prior": {("x0", "gmv"): 0.5, ("x0", "pv"): 0.1, ("x1", "gmv"): 1.0},
        "forbidden": (("*", "x0"),),
        "decays": (0.1, 0.5),
        "holidays": None,
    }
    plain = json.loads(json.dumps(parameters_to_json(parameters)))
    assert parameters_from_json(plain) == parameters


def test_an_existing_place_is_refused(fitted: Fitted, saved: Path, tmp_path: Path) -> None:
    before = (saved / "model.json").read_bytes()
    with pytest.raises(ModelError, match="overwrite=True"):
        fitted.model.save(saved)
    assert (saved / "model.json").read_bytes() == before
    assert fitted.model.save(saved, overwrite=True) == saved
    (tmp_path / "file").write_text("mine")
    with pytest.raises(ModelError, match="Nothing can be written below"):
        fitted.model.save(tmp_path / "file" / "model")
    for place in (tmp_path / "notes", tmp_path / "file"):
        place.mkdir() if place.name == "notes" else place.write_text("mine")
        with pytest.raises(ModelError, match="not touched"):
            fitted.model.save(place, overwrite=True)


def test_a_model_directory_with_other_files_is_not_replaced(fitted: Fitted, saved: Path) -> None:
    (saved / "notes.txt").write_text("mine")
    with pytest.raises(ModelError, match="not touched"):
        fitted.model.save(saved, overwrite=True)
    assert (saved / "notes.txt").read_text() == "mine"


def test_what_fails_while_writing_leaves_nothing(
    fitted: Fitted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(json, "dumps", lambda *a, **k: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        fitted.model.save(tmp_path / "model")
    assert list(tmp_path.iterdir()) == []


def test_an_unfitted_model_is_not_saved(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="not fitted"):
        CausalMMM().save(tmp_path / "model")


def _bias(weights: dict[str, np.ndarray]) -> str:
    return next(name for name in sorted(weights) if name.endswith("bias"))


def _cut(saved: Path) -> None:
    path = saved / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


def _other_weights(saved: Path) -> None:
    """Those of another fit: the same names, shapes and size."""
    path = saved / "model.safetensors"
    weights = load_file(path)
    weights[_bias(weights)] += 1
    save_file(weights, path)


def _sparse(path: Path) -> None:
    with path.open("r+b") as file:
        file.truncate(1 << 40)


def _wrong_shape(saved: Path) -> None:
    def change(weights: dict[str, np.ndarray]) -> None:
        name = _bias(weights)
        weights[name] = np.zeros(len(weights[name]) + 1, np.float32)

    edit_weights(saved, change)


DAMAGE: dict[str, tuple[Callable[[Path], object], str, tuple[str, ...]]] = {
    "no header": (lambda d: (d / "model.json").unlink(), "no-such-model", ("model.json",)),
    "no weights": (
        lambda d: (d / "model.safetensors").unlink(),
        "missing-weights",
        ("model.safetensors",),
    ),
    "cut weights": (_cut, "truncated-weights", ("model.safetensors", "cut off")),
    "empty weights": (
        lambda d: (d / "model.safetensors").write_bytes(b""),
        "truncated-weights",
        ("0 bytes",),
    ),
    "absurd weights": (
        lambda d: (d / "model.safetensors").write_bytes(struct.pack("<Q", 1 << 60)),
        "truncated-weights",
        ("8 bytes",),
    ),
    "header is no JSON": (
        lambda d: (d / "model.json").write_text('{"kind": '),
        "unreadable-model",
        ("not JSON",),
    ),
    "header of something else": (
        lambda d: (d / "model.json").write_text("[1]"),
        "unreadable-model",
        ("does not describe",),
    ),
    "sparse header": (lambda d: _sparse(d / "model.json"), "unreadable-model", ("1099511627776",)),
    "sparse weights": (
        lambda d: _sparse(d / "model.safetensors"),
        "truncated-weights",
        ("1099511627776 bytes", "another fit"),
    ),
    "weights of another fit": (_other_weights, "wrong-weights", ("another fit", "digest")),
    "newer format": (lambda d: edit(d, lambda h: h.update(format=4)), "newer-format", ("4", "3")),
    "no format": (lambda d: edit(d, lambda h: h.pop("format")), "unknown-format", ("None",)),
    "header lacks keys": (
        lambda d: edit(d, lambda h: (h.pop("nodes"), h.pop("schema"))),
        "unreadable-model",
        ("'schema'", "'nodes'"),
    ),
    "unknown parameter": (
        lambda d: edit(d, lambda h: h["parameters"].update(wizardry=1)),
        "unreadable-model",
        ("wizardry",),
    ),
    "unknown setting": (
        lambda d: edit(d, lambda h: h["config"].update(wizardry=1)),
        "unreadable-model",
        ("wizardry",),
    ),
    "wrong shape": (_wrong_shape, "wrong-weights", ("bias", "the model needs")),
    "missing tensor": (
        lambda d: edit_weights(d, lambda w: w.pop(_bias(w))),
        "wrong-weights",
        ("bias", "missing"),
    ),
    "extra tensor": (
        lambda d: edit_weights(d, lambda w: w.update(more=np.zeros(2, np.float32))),
        "wrong-weights",
        ("'more'", "no part"),
    ),
    "other series": (
        lambda d: edit(d, lambda h: (h["nodes"].append("z"), h["roles"].append("target"))),
        "wrong-weights",
        ("[6, 6",),
    ),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_a_damaged_model_says_what_is_wrong(saved: Path, name: str) -> None:
    damage, code, says = DAMAGE[name]
    damage(saved)
    with pytest.raises(ModelError) as refused:
        load(saved)
    assert refused.value.report.codes == {code}
    for words in says:
        assert words in str(refused.value)


@pytest.mark.parametrize("name", ["model.json", "model.safetensors"])
def test_every_flipped_bit_is_found(saved: Path, name: str) -> None:
    path = saved / name
    content = path.read_bytes()
    for position in np.random.default_rng(7).choice(8 * len(content), 40, replace=False).tolist():
        damaged = bytearray(content)
        damaged[position // 8] ^= 1 << position % 8
        path.write_bytes(damaged)
        with pytest.raises(ModelError):
            load(saved)
    path.write_bytes(content)
    assert load(saved).nodes_


def test_every_wrong_tensor_is_named_at_once(saved: Path) -> None:
    def change(weights: dict[str, np.ndarray]) -> None:
        for name in list(weights)[:3]:
            weights[name] = np.zeros((1, 2, 3), np.float32)

    edit_weights(saved, change)
    with pytest.raises(ModelError) as refused:
        load(saved)
    assert len(refused.value.report) == 3


def test_a_device_that_is_not_here_is_refused(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(ModelError, match='device="cpu"'):
        load(saved, device="cuda")
    assert load(saved, device="auto").device_.type == "cpu"


def test_a_directory_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no directory"):
        load(tmp_path / "nowhere")


@pytest.mark.parametrize("key", ["config", "schema", "nodes", "roles", "calendar", "tensors",
                                 "parameters", "history", "trained_on", "context"])  # fmt: skip
def test_whatever_a_header_holds_is_refused_without_a_traceback(saved: Path, key: str) -> None:
    """As another program may have written it, with a digest that fits."""
    header = json.loads((saved / "model.json").read_text())
    header.pop("digest")
    values: list[Any] = [None, 3, "x", [], [[1, {"a": None}]], {}, {"hidden": "x"}, {"a": [1e9]}]
    values += [[*header[key], 5]] if isinstance(header[key], list) else [{**header[key], "z": []}]
    for value in values:
        (saved / "model.json").write_text(header_text({**header, key: value}))
        with contextlib.suppress(ModelError):  # and no other exception
            load(saved)
