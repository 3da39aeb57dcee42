"""One command makes a prior from a seed: the same bits again, also after a stop."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from causalmmm.engine.prior import Example, PretrainConfig, read_prior
from causalmmm.model import pretraining
from causalmmm.model.pretraining import example, examples, pretrain

TINY = PretrainConfig(laws=6, epochs=2, width=8, laws_at_once=2)


def test_pretraining_gives_the_same_file_from_scratch_and_from_what_a_stopped_run_left(
    tmp_path: Path,
) -> None:
    first = pretrain(tmp_path / "a", TINY, work=tmp_path / "one")
    again = pretrain(tmp_path / "b", TINY, work=tmp_path / "two")
    assert first["sha256"] == again["sha256"]
    examples(0, 3, tmp_path / "three", lambda count: None)  # a run that was stopped early
    resumed = pretrain(tmp_path / "c", TINY, work=tmp_path / "three")
    assert resumed["sha256"] == first["sha256"]
    assert first["settings"]["laws"] == 6
    assert first["held out"]
    assert len(first["history"]) == 2
    assert read_prior(tmp_path / "a").record == first


def test_a_law_has_the_same_number_however_many_are_drawn() -> None:
    one, two = example(0, 5), example(0, 5)
    assert torch.equal(one.features, two.features)
    assert one.features.dtype == torch.float16
    assert one.features.shape[:3] == one.edges.shape
    assert len(one.kinds) == one.edges.shape[-1]


def test_draws_of_other_laws_or_statistics_are_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read(work: Path) -> list[int]:
        counts: list[int] = []
        drawn: list[int] = []

        def draw(seed: int, number: int) -> Example:
            drawn.append(number)
            return laws[number]

        monkeypatch.setattr(pretraining, "example", draw)
        examples(0, 2, work, counts.append)
        assert counts == [2]
        return drawn

    laws = [example(0, 0), example(0, 1)]
    assert read(tmp_path) == [0, 1]
    assert read(tmp_path) == []  # as they were left
    monkeypatch.setattr(pretraining, "_MADE_BY", pretraining._MADE_BY[1:])
    pretraining.draws_version.cache_clear()
    assert read(tmp_path) == [0, 1]
    pretraining.draws_version.cache_clear()


def test_laws_are_the_same_drawn_side_by_side(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pretraining, "LAWS_PER_FILE", 2)
    together = examples(0, 3, tmp_path, lambda count: None)
    assert len(list(tmp_path.glob("laws-*"))) == 2
    for number, found in enumerate(together):
        assert torch.equal(found.features, example(0, number).features)


def test_pretraining_needs_more_than_one_law(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="at least two laws"):
        pretrain(tmp_path / "a", PretrainConfig(laws=1, epochs=1), work=tmp_path)
