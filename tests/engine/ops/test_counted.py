"""Random numbers by counter are random enough, and the same wherever they are asked for."""

from __future__ import annotations

import torch

from causalmmm.engine.ops.counted import as_normal, as_uniform, counted

KEYS = counted(torch.arange(300), torch.tensor(7))
PLACES = torch.arange(400).view(-1, 1, 1) * 4096 + torch.arange(10)
NORMAL = as_normal(counted(KEYS.unsqueeze(-1), PLACES))  # [400, 300, 10]


def test_a_number_depends_on_its_key_and_place_alone() -> None:
    alone = as_normal(counted(KEYS[5:6].unsqueeze(-1), PLACES[100:101, :, 3:4]))
    assert float(alone) == float(NORMAL[100, 5, 3])


def test_normal_numbers_have_the_moments_of_normal_ones() -> None:
    error = NORMAL.numel() ** -0.5
    for power, moment, spread in ((1, 0.0, 1.0), (2, 1.0, 2**0.5), (3, 0.0, 15**0.5)):
        assert abs(float(NORMAL.pow(power).mean()) - moment) < 4 * spread * error
    assert abs(float(NORMAL.pow(4).mean()) - 3) < 4 * 96**0.5 * error + 0.01  # of 16,384 values


def test_numbers_of_neighbours_are_independent() -> None:
    """Of places, of keys, and of their squares; each correlation has standard error 1."""
    for part in (NORMAL, NORMAL.square() - 1):
        for axis in range(3):
            others = part.shape[axis] - 1
            product = part.narrow(axis, 0, others) * part.narrow(axis, 1, others)
            product = product / part.square().mean()
            assert abs(float(product.mean())) * product.numel() ** 0.5 < 4


def test_uniform_numbers_fill_the_interval_evenly() -> None:
    uniform = as_uniform(counted(KEYS.unsqueeze(-1), PLACES)).flatten()
    assert 0 < float(uniform.min()) < float(uniform.max()) < 1
    share = torch.histc(uniform, 20, 0, 1) / len(uniform)
    assert float((share - 0.05).abs().max()) < 5 * (0.05 / len(uniform)) ** 0.5
