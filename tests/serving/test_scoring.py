"""Scoring a data set gives the model's answers, survives being killed, and replaces nothing."""

from __future__ import annotations

import json
import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from causalmmm import Panel, PanelError, RefusedInput
from causalmmm.runtime import OnnxModel
from causalmmm.scoring import MANIFEST, Scored, answer_schema, score, score_dataset
from causalmmm.scoring.partitions import Fingerprint, Partition

PARTS = 6


@pytest.fixture(scope="module")
def model(exported: Path) -> OnnxModel:
    return OnnxModel(exported, threads=1)


@pytest.fixture(scope="module")
def data(panel: Panel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The panel in hive folders, four stores in each."""
    folder = tmp_path_factory.mktemp("data") / "panel"
    for part, stores in enumerate(stores_of(panel)):
        write(panel.to_frame(stores), folder / f"region={part}" / "part-0.parquet")
    return folder


def stores_of(panel: Panel) -> Iterator[list[str]]:
    size = panel.n_stores // PARTS
    for begin in range(0, panel.n_stores, size):
        yield panel.stores[begin : begin + size].tolist()


def write(frame: pd.DataFrame, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    frame.to_parquet(path, index=False)


def files(folder: Path) -> dict[str, int]:
    """Every file with the time of its last change."""
    found = [path for path in folder.rglob("*") if path.is_file()]
    return {path.relative_to(folder).as_posix(): path.stat().st_mtime_ns for path in found}


def frame_of(table: pa.Table) -> pd.DataFrame:
    frame = table.to_pandas(date_as_object=False)
    keys = [name for name in ("store", "date", "source", "series", "target") if name in frame]
    frame = frame.drop(columns=["region"], errors="ignore")
    return frame.sort_values(keys).reset_index(drop=True)


def assert_same(found: pa.Table, expected: pd.DataFrame) -> None:
    wanted = frame_of(pa.Table.from_pandas(expected, preserve_index=False))
    pd.testing.assert_frame_equal(frame_of(found), wanted, rtol=1e-4, check_dtype=False)


def test_a_table_gives_the_answers_of_the_model(panel: Panel, model: OnnxModel) -> None:
    table = pa.Table.from_pandas(panel.to_frame(), preserve_index=False)
    assert_same(score(table, model), model.predict(panel))
    assert_same(score(table, model, horizon=5), model.predict(panel, horizon=5))
    assert_same(score(table, model, what="graphs"), model.graphs(panel))


def test_batches_of_an_engine_give_the_same_answers(panel: Panel, model: OnnxModel) -> None:
    """As scoring.md has it: shuffled rows in batches, to a pickled copy, in two partitions."""

    def forecasts(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        copy = pickle.loads(pickle.dumps(model))
        yield from score(pa.Table.from_batches(list(batches)), copy).to_batches()

    answers = []
    for names in (panel.stores[:9].tolist(), panel.stores[9:].tolist()):
        rows = panel.to_frame(names).sample(frac=1, random_state=0)
        table = pa.Table.from_pandas(rows, preserve_index=False)
        answers += forecasts(iter(table.to_batches(max_chunksize=100)))
    found = pa.Table.from_batches(answers, answer_schema("forecasts"))
    assert_same(found, model.predict(panel))


def test_every_answer_has_the_promised_columns(panel: Panel, model: OnnxModel) -> None:
    table = pa.Table.from_pandas(panel.to_frame(["3", "5"]), preserve_index=False)
    for what in ("forecasts", "graphs"):
        for given in (table, table.slice(0, 0)):
            assert score(given, model, what=what).schema == answer_schema(what)


@pytest.mark.parametrize("what", ["forecasts", "graphs"])
def test_a_data_set_gives_the_answers_of_the_whole_panel(
    exported: Path, panel: Panel, model: OnnxModel, data: Path, tmp_path: Path, what: Any
) -> None:
    done = score_dataset(exported, data, tmp_path / "scores", what=what, workers=2)
    found = ds.dataset(tmp_path / "scores", partitioning="hive").to_table()
    expected = model.predict(panel) if what == "forecasts" else model.graphs(panel)
    assert_same(found, expected)
    assert done == Scored(PARTS, 0, len(expected))
    assert set(files(tmp_path / "scores")) == {*files(data), MANIFEST}


def test_plain_files_and_stores_named_by_folders_are_read(
    exported: Path, panel: Panel, model: OnnxModel, tmp_path: Path
) -> None:
    few = panel.select(["1", "2", "3"])
    for store in few.stores:
        frame = few.to_frame([store]).drop(columns="shop")
        write(frame, tmp_path / "hive" / f"shop={store}" / "a.parquet")
        write(few.to_frame([store]), tmp_path / "plain" / f"{store}.parquet")
    (tmp_path / "plain" / "_SUCCESS").touch()
    for layout in ("hive", "plain"):
        score_dataset(exported, tmp_path / layout, tmp_path / f"{layout}-scores", workers=1)
        written = sorted((tmp_path / f"{layout}-scores").rglob("*.parquet"))
        found = pa.concat_tables([pq.read_table(path, partitioning=None) for path in written])
        assert_same(found, model.predict(few))


def test_a_manifest_that_a_full_disk_cut_off_is_written_again(
    exported: Path, data: Path, tmp_path: Path
) -> None:
    out = tmp_path / "scores"
    out.mkdir()
    (out / MANIFEST).write_text('{"format": 2, "mod')
    assert score_dataset(exported, data, out, workers=1).done == PARTS
    (out / MANIFEST).write_text("")  # beside answers, whose model is not known then
    with pytest.raises(RefusedInput, match="other-scoring"):
        score_dataset(exported, data, out, workers=1)


def test_a_rerun_does_only_what_is_missing(exported: Path, data: Path, tmp_path: Path) -> None:
    out = tmp_path / "scores"
    score_dataset(exported, data, out, workers=1)
    lost = out / "region=2" / "part-0.parquet"
    lost.unlink()
    before, on_partition = files(out), []
    done = score_dataset(
        exported, data, out, workers=1, on_partition=lambda *said: on_partition.append(said)
    )
    assert done == Scored(1, PARTS - 1, 4 * 3 * 3)
    assert on_partition == [("region=2/part-0.parquet", 4 * 3 * 3)]
    after = files(out)
    assert {name: after[name] for name in before} == before
    assert set(after) - set(before) == {"region=2/part-0.parquet"}


def test_a_killed_run_loses_nothing_and_leaves_no_process(
    exported: Path, many: Panel, model: OnnxModel, tmp_path: Path
) -> None:
    panel = many  # takes a second or two, and is killed after three files
    for store in panel.stores:
        write(panel.to_frame([store]), tmp_path / "panel" / f"{store}.parquet")
    out = tmp_path / "scores"
    command = [str(Path(sys.executable).with_name("causalmmm")), "score", str(exported)]
    command += ["--input", str(tmp_path / "panel"), "--output", str(out), "--workers", "1"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as run:
        assert run.stderr is not None
        for _ in range(3):
            assert run.stderr.readline().startswith("scored ")
        run.send_signal(signal.SIGKILL)
        run.stderr.read()  # ends when the workers, which write there as well, have ended too
        assert run.wait() == -signal.SIGKILL
    before = {name: at for name, at in files(out).items() if name.endswith(".parquet")}
    assert 3 <= len(before) < panel.n_stores
    (out / ".9.parquet-1.causalmmm-partial").write_bytes(b"half a file")
    again = subprocess.run([*command, "--json"], capture_output=True, text=True, check=True)
    said = json.loads(again.stdout)
    assert (said["partitions"], said["kept"]) == (panel.n_stores - len(before), len(before))
    after = files(out)
    assert {name: after[name] for name in before} == before
    assert set(after) == {MANIFEST, *(f"{store}.parquet" for store in panel.stores)}
    assert_same(ds.dataset(out).to_table(), model.predict(panel))


def test_bad_files_are_named_and_do_not_stop_the_others(
    exported: Path, panel: Panel, tmp_path: Path
) -> None:
    folder, out = tmp_path / "panel", tmp_path / "scores"
    write(panel.to_frame(["1"]), folder / "good.parquet")
    write(panel.to_frame(["2"]).assign(tv=-1.0), folder / "negative.parquet")
    write(panel.tail(5).to_frame(["3"]), folder / "short.parquet")
    write(panel.to_frame(["4"]).drop(columns="price"), folder / "narrow.parquet")
    (folder / "torn.parquet").write_bytes((folder / "good.parquet").read_bytes()[:500])
    with pytest.raises(PanelError) as refused:
        score_dataset(exported, folder, out, workers=1)
    assert set(files(out)) == {MANIFEST, "good.parquet"}
    messages = "\n".join(finding.message for finding in refused.value.report)
    for name in ("negative", "short", "narrow", "torn"):
        assert f"'{name}.parquet'" in messages
    assert "'good.parquet'" not in messages
    for name in ("narrow", "torn"):
        (folder / f"{name}.parquet").unlink()
    worse = panel.to_frame(["2", "5"])
    worse.loc[worse.index[3], "tv"] = -1.0
    write(worse, folder / "negative.parquet")
    (folder / "short.parquet").unlink()
    done = score_dataset(exported, folder, out, workers=1, skip_bad_stores=True)
    assert (done.done, done.kept, done.left_out) == (1, 1, ("2",))
    assert set(pq.read_table(out / "negative.parquet")["store"].to_pylist()) == {"5"}


def test_numbers_that_are_stored_as_text_are_read_as_they_are_written(
    exported: Path, panel: Panel, tmp_path: Path
) -> None:
    frame, folder = panel.to_frame(["1"]), tmp_path / "data"
    swap = str.maketrans(",.", ".,")
    texts = {
        name: frame[name].map("{:,.9f}".format).str.translate(swap)
        for name in frame.select_dtypes("number")
    }
    write(frame, tmp_path / "plain" / "1.parquet")
    write(frame.assign(**texts), folder / "1.parquet")
    with pytest.raises(PanelError, match="error"):
        score_dataset(exported, folder, tmp_path / "refused", workers=1)
    signs: dict[str, Any] = {"decimal": ",", "thousands": "."}
    score_dataset(exported, folder, tmp_path / "out", workers=1, **signs)
    score_dataset(exported, tmp_path / "plain", tmp_path / "usual", workers=1)
    pd.testing.assert_frame_equal(
        *(pq.read_table(tmp_path / o / "1.parquet").to_pandas() for o in ("out", "usual"))
    )
    with pytest.raises(RefusedInput):  # another reading of the same files is another run
        score_dataset(exported, folder, tmp_path / "out", workers=1)


def test_a_store_in_two_files_is_refused_before_anything_is_written(
    exported: Path, panel: Panel, tmp_path: Path
) -> None:
    folder = tmp_path / "panel"
    write(panel.head(20).to_frame(["1", "2"]), folder / "a.parquet")
    # the same store as a number, as other tools write it
    rest = panel.to_frame(["2", "3"]).astype({"shop": "int64"})
    write(rest, folder / "b.parquet")
    with pytest.raises(PanelError) as refused:
        score_dataset(exported, folder, tmp_path / "scores", workers=1)
    (finding,) = refused.value.report
    assert finding.code == "store-in-two-partitions"
    assert finding.message == "Store '2' is in 'a.parquet' and in 'b.parquet'."
    assert not (tmp_path / "scores").exists()


def test_another_model_or_setting_is_refused(exported: Path, panel: Panel, tmp_path: Path) -> None:
    folder, out = tmp_path / "panel", tmp_path / "scores"
    write(panel.to_frame(["1"]), folder / "a.parquet")
    score_dataset(exported, folder, out, workers=1)
    with pytest.raises(RefusedInput, match="begun with horizon 3, not 5"):
        score_dataset(exported, folder, out, horizon=5, workers=1)
    with pytest.raises(RefusedInput, match="what 'forecasts', not 'graphs'"):
        score_dataset(exported, folder, out, what="graphs", workers=1)
    manifest = json.loads((out / MANIFEST).read_text())
    (out / MANIFEST).write_text(json.dumps(manifest | {"model": "0" * 64}))
    with pytest.raises(RefusedInput, match="begun with model '0000"):
        score_dataset(exported, folder, out, workers=1)


def test_nothing_of_the_user_is_replaced(exported: Path, panel: Panel, tmp_path: Path) -> None:
    folder, out = tmp_path / "panel", tmp_path / "scores"
    write(panel.to_frame(["1"]), folder / "a.parquet")
    write(panel.to_frame(["2"]), folder / "b.parquet")
    mine = tmp_path / "mine"
    write(panel.to_frame(["3"]), mine / "a.parquet")
    with pytest.raises(RefusedInput, match="already exists"):
        score_dataset(exported, folder, mine, workers=1)
    with pytest.raises(RefusedInput, match="lies in"):
        score_dataset(exported, folder, folder / "scores", workers=1)
    score_dataset(exported, folder, out, workers=1)
    write(panel.to_frame(["4"]), out / "a.parquet")
    write(panel.to_frame(["5"]), out / "c.parquet")
    before = files(out)
    with pytest.raises(RefusedInput) as refused:
        score_dataset(exported, folder, out, workers=1)
    codes = {finding.code for finding in refused.value.report}
    assert codes == {"place-taken", "answer-without-partition"}
    assert files(out) == before


@pytest.mark.parametrize("compression", [None, "snappy"])
def test_a_corrected_cell_is_scored_again(
    exported: Path, panel: Panel, model: OnnxModel, tmp_path: Path, compression: Any
) -> None:
    """Of the same size and footer, and with its old time of change put back."""
    folder, out = tmp_path / "panel", tmp_path / "scores"
    frame = panel.to_frame(["1", "2"])
    path = folder / "a.parquet"
    folder.mkdir()
    frame.to_parquet(path, index=False, compression=compression)
    write(panel.to_frame(["3"]), folder / "b.parquet")
    score_dataset(exported, folder, out, workers=1)
    then = path.stat()
    middle = frame["sales"].sort_values().index[len(frame) // 2]  # neither least nor largest
    frame.loc[middle, "sales"] *= 1.001
    frame.to_parquet(path, index=False, compression=compression)
    os.utime(path, ns=(then.st_atime_ns, then.st_mtime_ns))
    if compression is None:
        assert path.stat().st_size == then.st_size
    untouched = (out / "b.parquet").stat().st_mtime_ns
    assert score_dataset(exported, folder, out, workers=1) == Scored(1, 1, 2 * 3 * 3, changed=1)
    assert (out / "b.parquet").stat().st_mtime_ns == untouched
    assert_same(pq.read_table(out / "a.parquet"), model.predict(frame))
    path.touch()  # rewritten without a change: read again, but kept
    assert score_dataset(exported, folder, out, workers=1) == Scored(0, 2, 0)


def test_files_that_were_not_written_to_are_not_read_again(
    exported: Path, panel: Panel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "panel"
    write(panel.to_frame(["1"]), folder / "a.parquet")
    monkeypatch.setattr("causalmmm.scoring.partitions._CLOCK_SECONDS", -1.0)  # settled at once
    partition = Partition("a.parquet", folder / "a.parquet")
    seen = Fingerprint.of(partition)
    monkeypatch.setattr("causalmmm.scoring.partitions._digest", lambda partition: 1 / 0)
    assert seen.fits(partition)
    partition.path.touch()
    with pytest.raises(ZeroDivisionError):
        seen.fits(partition)


def test_two_runs_into_one_folder_are_refused(exported: Path, panel: Panel, tmp_path: Path) -> None:
    folder, out = tmp_path / "panel", tmp_path / "scores"
    for store in ("1", "2"):
        write(panel.to_frame([store]), folder / f"{store}.parquet")
    refusals = []

    def second(name: str, rows: int) -> None:
        with pytest.raises(RefusedInput, match="Another run is writing") as refused:
            score_dataset(exported, folder, out, workers=1)
        refusals.append(refused)

    score_dataset(exported, folder, out, workers=1, on_partition=second)
    assert len(refusals) == 2


def test_no_torch_is_needed(exported: Path, data: Path, tmp_path: Path) -> None:
    code = """
import sys
sys.modules["torch"] = None
from causalmmm.scoring import score_dataset
if __name__ == "__main__":
    print(score_dataset(sys.argv[1], sys.argv[2], sys.argv[3], workers=1).done)
"""
    program = tmp_path / "program.py"
    program.write_text(code)
    command = [sys.executable, "-P", program, exported, data, tmp_path / "scores"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == f"{PARTS}\n"
