"""Maximum a posteriori of one receiver's parameters: L-BFGS, and moves it cannot make by itself.

Which designs are compared is decided in ``fit``.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from causalmmm.engine.regression.problem import Mode, Problem, gradient, in_single, objective

_DECAYS = (0.05, 0.2, 0.4, 0.6, 0.8, 0.92, 0.98)
_HISTORY = 30
_SEARCHES = 6
_MOST_CENTRAL = 100
_NEXT_TO_NOTHING = 0.2  # nats
_TOLERANCE = 1e-4  # nats between two iterations that end the search


def converge(problem: Problem, mode: Mode, iterations: int) -> Mode:
    """The top nearest to a mode, searched anew until a search gains next to nothing.

    L-BFGS ends at the first short step, which on a ridge is not the top.
    """
    for _ in range(_SEARCHES):
        found = maximise(problem, mode, iterations)
        gained, mode = found.value - mode.value, found
        if gained < _NEXT_TO_NOTHING:
            break
    return mode


def maximise(problem: Problem, begin: Mode, iterations: int) -> Mode:
    """A point above ``begin`` on the log posterior, after at most so many steps."""
    problem = in_single(problem)
    sizes = [len(begin.theta), len(begin.log_noise)]
    both = torch.cat([begin.theta, begin.log_noise]).clone().requires_grad_()
    search = torch.optim.LBFGS(
        [both],
        max_iter=iterations,
        max_eval=2 * iterations,
        history_size=_HISTORY,
        tolerance_grad=1e-3,
        tolerance_change=_TOLERANCE,
        line_search_fn="strong_wolfe",
    )

    def loss() -> Tensor:
        value = -objective(problem, *both.split(sizes))
        (both.grad,) = torch.autograd.grad(value, both)
        return value.detach()

    search.step(loss)
    theta, log_noise = both.detach().split(sizes)
    with torch.no_grad():
        value = float(objective(problem, theta, log_noise))
    if not value > begin.value:  # also where a step left the numbers
        return begin
    return Mode(theta, log_noise, value)


@torch.no_grad()
def best_decays(problem: Problem, mode: Mode) -> Mode:
    """The mode with each sender's decay moved, one after the other, where that is better.

    The likelihood has several tops in a decay, between which a gradient does not lead. All values
    of one sender are compared in one evaluation.
    """
    problem = in_single(problem)
    spec, theta, value = problem.spec, mode.theta.clone(), mode.value
    grid = torch.logit(torch.tensor(_DECAYS, dtype=torch.float64))
    log_noise = mode.log_noise.expand(len(grid), -1)
    response = problem.responses(theta)  # [B, n, T]
    moments = problem.design.moments(response)
    for i in range(spec.senders):
        tried = theta.expand(len(grid), -1).clone()
        tried[:, i] = (grid - spec.centre[i]) / spec.width[i]
        other = problem.design.sender(i).responses(*_shapes_of(problem, tried, i)).squeeze(-2)
        changed = problem.design.moments_with(moments, response, i, other)
        values = objective(problem, tried, log_noise, changed)
        best = int(values.argmax())
        if float(values[best]) > value:
            theta, value = tried[best], float(values[best])
            response[:, i] = other[best]
            moments = replace(moments, xtx=changed.xtx[best], xty=changed.xty[best])
    return Mode(theta, mode.log_noise, value)


def _shapes_of(problem: Problem, theta: Tensor, i: int) -> tuple[Tensor, Tensor, Tensor]:
    """Decay, slope and half saturation [G, 1] of the i-th sender under each theta [G, K]."""
    shapes = problem.spec.unpack(theta)
    decay, slope, half = (p[:, i : i + 1] for p in (shapes.decay, shapes.slope, shapes.half))
    return decay, slope, half


def curvature(problem: Problem, mode: Mode, step: float = 1e-3) -> Tensor:
    """[K, K]: negative Hessian of the log posterior by theta, by differences of the gradient, the
    noise held; central ones, or where there are many parameters to one side of the mode."""
    size = len(mode.theta)
    central = size <= _MOST_CENTRAL
    _, middle = gradient(problem, mode.theta, mode.log_noise)
    rows = []
    for k in range(size):
        move = torch.zeros_like(mode.theta)
        move[k] = step
        _, above = gradient(problem, mode.theta + move, mode.log_noise)
        if central:
            _, below = gradient(problem, mode.theta - move, mode.log_noise)
            rows.append((below - above)[:size] / (2 * step))
        else:
            rows.append((middle - above)[:size] / step)
    matrix = torch.stack(rows)
    return 0.5 * (matrix + matrix.mT)


def laplace_draws(problem: Problem, mode: Mode, draws: int, seed: int) -> Tensor:
    """[D, K]: theta from the normal distribution with the log posterior's curvature at its mode.

    No direction is less certain than its prior says (eigenvalues are at least 1/2).
    """
    values, axes = torch.linalg.eigh(curvature(problem, mode))
    generator = torch.Generator().manual_seed(seed)
    half = torch.randn((draws + 1) // 2, len(mode.theta), generator=generator, dtype=torch.float64)
    normal = torch.cat([half, -half])[:draws]  # mirrored pairs: their mean is the mode
    return mode.theta + normal * values.clamp_min(0.5).rsqrt() @ axes.mT
