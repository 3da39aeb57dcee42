"""Evidence that effects begin within the step rather than one later, at the shapes that are usual.

Costs a few Cholesky factors; nothing is fitted but scales and noise.
"""

from __future__ import annotations

from collections.abc import Sequence

from causalmmm.engine.regression.config import RegressionConfig
from causalmmm.engine.regression.design import Layout, Observed
from causalmmm.engine.regression.em import expect_maximise
from causalmmm.engine.regression.fit import Choice, base_problem
from causalmmm.engine.regression.problem import start

_EM_STEPS = 20


def alignment_gain(
    observed: Observed, now: Layout, later: Layout, groups: Sequence[str], config: RegressionConfig
) -> float:
    """Log evidence of the series that come after others in a step under the layout ``now``, less
    that under ``later``; nats in all stores.

    Both see the same rows, each receiver's own last value among the terms.
    """
    choice, gain = Choice(shared_scale=False, own_lag=True), 0.0
    for receiver in range(now.nodes):
        if not now.shaped(receiver):
            continue
        values = []
        for plan in (now, later):
            senders = plan.senders(receiver)
            problem = base_problem(observed, plan, receiver, senders, groups, None, config, choice)
            values.append(expect_maximise(problem, start(problem), _EM_STEPS).value)
        gain += values[0] - values[1]
    return gain
