"""Windows: rows of a batch, context and target masks, and the calendar."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from causalmmm.engine.batches.windows import Windows, series_scale
from causalmmm.engine.spec.calendar import (
    Calendar,
    CalendarSpec,
    calendar_spec,
    extend_grid,
    usual_harmonics,
)
from causalmmm.engine.spec.series import SeriesData


def ragged(lengths: list[int], nodes: int = 3, seed: int = 0) -> SeriesData:
    """Stores of the given lengths, all ending on the same day."""
    rng = np.random.default_rng(seed)
    rows = sum(lengths)
    grid = np.datetime64("2024-01-01") + np.arange(max(lengths))
    return SeriesData(
        values=rng.gamma(2.0, 50.0, (rows, nodes)).astype(np.float32),
        offsets=np.cumsum([0, *lengths]),
        start=np.array([max(lengths) - n for n in lengths]),
        grid=grid,
        freq="D",
        roles=("channel",) * (nodes - 1) + ("target",),
        controls=np.zeros((rows, 0), np.float32),
        context=np.zeros((len(lengths), 0), np.float32),
    )


def windows_of(data: SeriesData, window: int = 730, memory: int = 7) -> Windows:
    return Windows(data, Calendar(CalendarSpec("D", yearly=2), data.grid), window, memory)


@settings(max_examples=40, deadline=None)
@given(
    lengths=st.lists(st.integers(20, 90), min_size=1, max_size=6),
    window=st.integers(20, 100),
    share=st.floats(0.1, 0.7),
    seed=st.integers(0, 99),
)
def test_no_row_is_both_context_and_target(
    lengths: list[int], window: int, share: float, seed: int
) -> None:
    data = ragged(lengths)
    rng = np.random.default_rng(seed)
    batch = windows_of(data, window).cross(np.arange(len(lengths)), share, rng)
    assert not (batch.context_mask & batch.target_mask).any()
    used = np.minimum(lengths, window)
    assert ((batch.context_mask | batch.target_mask).sum(1).numpy() == used).all()
    expected = np.maximum(1, np.floor(share * (used - 7)))
    assert (batch.target_mask.sum(1).numpy() == expected).all()


def test_target_rows_have_full_lags() -> None:
    data = ragged([40, 25])
    for seed in range(50):
        batch = windows_of(data).cross(np.arange(2), 0.4, np.random.default_rng(seed))
        first_target = batch.target_mask.int().argmax(1)
        first_row = (batch.context_mask | batch.target_mask).int().argmax(1)
        assert (first_target >= first_row + 7).all()


def test_a_full_window_holds_the_latest_rows_divided_by_the_store_scale() -> None:
    data = ragged([50, 30])
    batch = windows_of(data, window=40).full(np.array([0, 1]))
    scale = series_scale(data)
    np.testing.assert_allclose(
        batch.x[0].numpy() * scale[0][:, None], data.values[10:50].T, rtol=1e-6
    )
    np.testing.assert_allclose(
        batch.x[1, :, 10:].numpy() * scale[1][:, None], data.values[50:80].T, rtol=1e-6
    )
    assert batch.context_mask.sum(1).tolist() == [40, 30]


def test_a_part_of_a_draw_is_that_part_of_its_batch() -> None:
    """In as many columns as the whole batch, also where its own windows are shorter."""
    windows, stores = windows_of(ragged([50, 30, 20])), np.arange(3)
    draw = windows.draw(stores, 0.4, np.random.default_rng(0))
    whole, part = windows.batch(draw), windows.batch(draw.part(slice(1, 3)))
    for name, value in vars(part).items():
        assert (value == getattr(whole, name)[1:]).all(), name


def test_calendar_and_controls_of_a_batch_are_those_of_its_dates() -> None:
    data = ragged([40, 25])
    controls = np.random.default_rng(0).normal(3.0, 2.0, (65, 2)).astype(np.float32)
    data = dataclasses.replace(data, controls=controls, context=controls[:, :1])
    spec = calendar_spec(data, yearly=1, country=None)
    calendar = Calendar(spec, data.grid)
    windows = Windows(data, calendar, 30, 7)
    batch = windows.cross(np.arange(2), 0.4, np.random.default_rng(1))
    for store, (begin, length) in enumerate(((0, 40), (40, 25))):
        rows = np.arange(begin, begin + length)
        found = batch.basis[store, batch.valid[store]].numpy()
        at = next(
            k
            for k in range(length - len(found) + 1)
            if np.allclose(found[:, -2:], calendar.standardise(controls[rows[k : k + len(found)]]))
        )
        position = data.start[store] + np.arange(at, at + len(found))
        np.testing.assert_array_equal(found[:, :-2], calendar.rows(position[None])[0])
        moving = batch.context[store][:, batch.valid[store]].numpy()
        np.testing.assert_array_equal(moving.T, controls[rows[at : at + len(found)], :1])


def test_padding_holds_the_mean_of_the_context_rows() -> None:
    windows, stores = windows_of(ragged([50, 30])), np.array([0, 1])
    for batch in (windows.full(stores), windows.cross(stores, 0.4, np.random.default_rng(0))):
        mean = batch.x[1, :, batch.context_mask[1]].mean(-1)
        np.testing.assert_allclose(batch.x[1, :, :20], mean[:, None].expand(-1, 20), rtol=1e-5)


def test_the_same_window_objective_predicts_context_rows() -> None:
    batch = windows_of(ragged([50])).cross(np.array([0]), 0.4, np.random.default_rng(0), same=True)
    assert batch.context_mask.all()
    assert batch.target_mask.sum() == 50 - 7


def test_scale_is_the_mean_magnitude_and_one_for_all_zero_series() -> None:
    data = ragged([30, 20])
    data.values[:30, 1] = 0.0
    scale = series_scale(data)
    np.testing.assert_allclose(scale[0, 0], np.abs(data.values[:30, 0]).mean(), rtol=1e-6)
    assert scale[0, 1] == 1.0


def test_weekly_terms_repeat_every_seven_days_and_trend_ends_at_zero() -> None:
    data = ragged([60])
    basis = windows_of(data).full(np.array([0])).basis[0].numpy()
    np.testing.assert_allclose(basis[:-7, 2:8], basis[7:, 2:8], atol=1e-5)
    assert basis[-1, 1] == 0.0
    np.testing.assert_allclose(np.diff(basis[:, 1]), 1 / 365.25, rtol=1e-3)


@pytest.mark.parametrize(
    ("freq", "start", "expected"),
    [
        ("D", "2024-02-28", "2024-02-29"),
        ("W-MON", "2024-01-01", "2024-01-08"),
        ("MS", "2024-12-01", "2025-01-01"),
    ],
)
def test_the_grid_is_extended_at_its_own_frequency(freq: str, start: str, expected: str) -> None:
    grid = np.array([start], dtype="datetime64[D]")
    assert extend_grid(grid, freq, 1)[-1] == np.datetime64(expected)


@pytest.mark.parametrize(("freq", "half"), [("D", 183), ("W-MON", 27), ("MS", 6)])
def test_only_histories_of_half_a_year_have_yearly_terms(freq: str, half: int) -> None:
    assert usual_harmonics(freq, np.array([half, half, 5])) > 0
    assert usual_harmonics(freq, np.array([5 * half, half - 1, half - 1])) == 0


def test_holidays_count_in_the_period_they_fall_into() -> None:
    pytest.importorskip("holidays", reason="holiday calendars are an optional extra")
    grid = np.datetime64("2024-12-23") + np.arange(7)
    spec = CalendarSpec("D", yearly=1, country="US")
    table = Calendar(spec, grid).rows(np.arange(7)[None])[0]
    column = spec.groups.index("holiday")
    assert table[:, column].tolist() == [0, 0, 1, 0, 0, 0, 0]
