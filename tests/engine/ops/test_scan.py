"""Rolled recurrences against the loop they stand for; exported ones are in `export/test_trace`."""

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
