"""Numbers as people write them, one colour per series, and colours that all eyes tell apart."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from causalmmm.plots.style import (
    OTHERS_COLOUR,
    PALETTE,
    TARGET,
    empty_figure,
    from_zero,
    number,
    series_colours,
    style_axes,
    tick_labels,
)

# Machado, Oliveira & Fernandes (2009), severity 1, for linear RGB.
COLOUR_BLIND = {
    "none": np.eye(3),
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216],
                   [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413],
                     [-0.011820, 0.042940, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602],
                   [0.004733, 0.691367, 0.303900]],
}  # fmt: skip
TO_XYZ = np.array(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750],
     [0.0193339, 0.1191920, 0.9503041]]
)  # fmt: skip


def linear(colour: str) -> np.ndarray:
    value = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    return np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)


def lab(rgb: np.ndarray) -> np.ndarray:
    xyz = TO_XYZ @ np.clip(rgb, 0, 1) / [0.95047, 1.0, 1.08883]
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


@pytest.mark.parametrize("eyes", COLOUR_BLIND)
def test_colours_are_told_apart_by_every_kind_of_eye(eyes: str) -> None:
    matrix = np.array(COLOUR_BLIND[eyes])
    seen = {c: lab(matrix @ linear(c)) for c in (*PALETTE, TARGET, OTHERS_COLOUR)}
    apart = {
        pair: float(np.linalg.norm(seen[pair[0]] - seen[pair[1]]))
        for pair in itertools.combinations(seen, 2)
        if pair != (TARGET, OTHERS_COLOUR)
    }
    assert min(apart.values()) > 20, min(apart, key=lambda pair: apart[pair])  # 2 is just visible


@pytest.mark.parametrize("colour", [*PALETTE, TARGET])
def test_colours_stand_out_from_white(colour: str) -> None:
    assert 1.05 / (0.05 + TO_XYZ[1] @ linear(colour)) >= 3.0


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (0, "0"), (1, "1"), (950, "950"), (1250, "1,250"), (9999.6, "10 k"), (45_300, "45.3 k"),
        (999_600, "1 M"), (1_200_000, "1.2 M"), (-3.5e9, "-3.5 bn"), (2e13, "20 tn"),
        (0.0342, "0.0342"), (0.99999, "1"), (1e-5, "0.00001"), (float("nan"), "-"),
        (float("inf"), "-"),
    ],
)  # fmt: skip
def test_numbers_are_written_as_people_write_them(value: float, written: str) -> None:
    assert number(value) == written


@pytest.mark.parametrize(
    ("ticks", "labels"),
    [
        ([0, 5e5, 1e6], ["0", "0.5 M", "1.0 M"]),
        ([0, 2.5e6, 5e6], ["0", "2.5 M", "5.0 M"]),
        ([10_250, 10_500], ["10.25 k", "10.50 k"]),
        ([0, 4000, 8000], ["0", "4,000", "8,000"]),
        ([-0.5, 0, 0.5], ["-0.5", "0", "0.5"]),
        ([0, 0.25, 0.5], ["0", "0.25", "0.50"]),
        ([3.0], ["3"]),
        ([], []),
    ],
)
def test_ticks_of_one_axis_share_unit_and_decimals(ticks: list[float], labels: list[str]) -> None:
    assert tick_labels(ticks) == labels


def test_axes_of_millions_have_no_powers_of_ten() -> None:
    figure = empty_figure((4, 3))
    axes = figure.add_subplot()
    axes.plot([0, 1], [2e6, 1.43e7])
    style_axes(axes, "sales")
    figure.draw_without_rendering()
    labels = [t.get_text() for t in axes.get_yticklabels()]
    assert any(label.endswith(" M") for label in labels)
    assert not any("e+" in label for label in labels)
    assert axes.get_ylabel() == "sales"


def test_a_series_has_one_colour_by_its_place_and_no_two_share_one() -> None:
    names = [f"x{k}" for k in range(24)]
    colours = series_colours(names)
    assert len(set(colours.values())) == 24
    assert list(colours.values())[:8] == list(PALETTE)
    assert series_colours(names[:5]) == {n: colours[n] for n in names[:5]}


@pytest.mark.parametrize(
    ("values", "bottom", "top"),
    [([50.0, 60.0], 0, 60), ([-2.0, 3.0], -2, 3), ([-5.0, -4.0], -5, 0)],
)
def test_axes_of_amounts_contain_zero(values: list[float], bottom: float, top: float) -> None:
    axes = empty_figure((3, 3)).add_subplot()
    axes.plot(values)
    from_zero(axes)
    low, high = axes.get_ylim()
    assert (low == 0) if bottom == 0 else (low <= bottom)
    assert high >= top
    assert low <= 0 <= high
