"""Rolled recurrences against the loop they stand for."""

from __future__ import annotations

import torch

from causalmmm.engine.ops.scan import State, roll


def test_roll_is_a_loop_over_the_first_axis() -> None:
    """A Fibonacci-like recurrence with two states, two inputs and two outputs."""
    torch.manual_seed(0)
    a, b = torch.randn(6, 3, dtype=torch.float64), torch.randn(6, 3, dtype=torch.float64)

    def step(state: State, now: State) -> tuple[State, State]:
        (last, before), (x, y) = state, now
        after = last + before + x
        return (after, last), (after * y, last - y)

    first, second = roll(step, (torch.ones(3), torch.zeros(3)), (a, b))
    assert first.shape == second.shape == (6, 3)
    last, before = torch.ones(3), torch.zeros(3)
    for t in range(6):
        after = last + before + a[t]
        assert torch.equal(first[t], after * b[t])
        assert torch.equal(second[t], last - b[t])
        last, before = after, last


def test_an_exported_roll_gives_the_same_numbers() -> None:
    class Sum(torch.nn.Module):
        def forward(self, x: torch.Tensor, start: torch.Tensor) -> torch.Tensor:
            def step(state: State, now: State) -> tuple[State, State]:
                total = 0.5 * state[0] + now[0]
                return (total,), (total,)

            return roll(step, (start,), (x,))[0]

    x, start = torch.randn(7, 4), torch.randn(4)
    program = torch.export.export(Sum(), (x, start), strict=False)
    assert "scan" in str(program.graph)
    torch.testing.assert_close(program.module()(x, start), Sum()(x, start))
