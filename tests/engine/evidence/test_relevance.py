"""The compiled regressions under relevance priors against their plain forms, both in float64.

Every instruction set on series with pauses, hidden rows, a constant series and an outlier. Sums
differ in the last bits, which updates and small pivots amplify.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from torch import Tensor

from causalmmm.engine.evidence import ard
from causalmmm.engine.prior import responses
from causalmmm.engine.prior.responses import _COMPONENTS, _OWN_LAGS
from causalmmm.kernels import evidence as compiled

pytest.importorskip("causalmmm._C", reason="needs the compiled extension")

STORES = 5
LAG_SHAPES = [(2, 30, 1), (3, 60, 3), (5, 90, 7), (9, 130, 2)]
BANK_SHAPES = [(2, 30), (3, 60), (7, 100), (12, 90)]


def drawn(nodes: int, steps: int) -> tuple[Tensor, Tensor, Tensor]:
    """Series and active rows [B, N, T], and context rows [B, T]."""
    rng = torch.Generator().manual_seed(nodes * steps)
    x = torch.randn(STORES, nodes, steps, generator=rng, dtype=torch.float64)
    x[:, 1, 1:] += 0.6 * x[:, 0, :-1]
    x[1, 0], x[2, -1, steps // 2] = 0.0, 50.0
    active = (torch.rand(STORES, nodes, steps, generator=rng) > 0.1).double()
    active[0, 1:] = active[0, 1]  # receivers with the same rows share a Gram matrix
    active[4] = 1.0
    mask = torch.ones(STORES, steps, dtype=torch.bool)
    mask[2, : steps // 5], mask[3, steps // 2 : steps // 2 + 6] = False, False
    return x, active, mask


def rows(nodes: int, steps: int, lags: int) -> ard._Rows:
    x, active, mask = drawn(nodes, steps)
    return ard._rows_of(x, x * active, active, mask, lags)


def bank(nodes: int, steps: int) -> tuple[Tensor, Tensor, Tensor, Tensor, list[int]]:
    """Arguments of the regressions on responses: every receiver, then all but the first within the
    step."""
    x, active, _ = drawn(nodes, steps)
    powers = torch.tensor([1.0, 2.0, 3.0, 0.5], dtype=x.dtype)[:_COMPONENTS]
    shaped = x.sign().unsqueeze(-1) * x.abs().unsqueeze(-1) ** powers  # [B, N, T, D]
    earlier = torch.ones(nodes, nodes).tril(-1).bool()
    now = torch.cat([torch.zeros_like(earlier), earlier[1:]])
    receivers = [*range(nodes), *range(1, nodes)]
    used = active[..., max(_OWN_LAGS) :].contiguous()
    return shaped.transpose(1, 2).contiguous(), x * active, used, now, receivers


def assert_alike(found: object, expected: object) -> None:
    for name, part in vars(expected).items():
        torch.testing.assert_close(
            getattr(found, name),
            part,
            rtol=1e-8,
            atol=1e-8,
            msg=lambda text, name=name: name + text,
        )


@contextmanager
def threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("level")
@pytest.mark.parametrize(("nodes", "steps", "lags"), LAG_SHAPES)
def test_regressions_on_lags(nodes: int, steps: int, lags: int) -> None:
    given = rows(nodes, steps, lags)
    assert compiled.relevance_supported(given.series)
    assert_alike(ard._relevance(given, lags), ard._plain_relevance(given, lags))


@pytest.mark.usefixtures("level")
@pytest.mark.parametrize(("nodes", "steps"), BANK_SHAPES)
def test_regressions_on_responses(nodes: int, steps: int) -> None:
    given = bank(nodes, steps)
    assert_alike(responses._regressions(*given), responses._plain_regressions(*given))


def test_forecasts_use_what_the_operator_chose(monkeypatch: pytest.MonkeyPatch) -> None:
    x, active, mask = drawn(4, 80)
    found = ard.ard_forecast(x, x * active, active, mask, 3)
    monkeypatch.setattr(compiled, "relevance_supported", lambda _: False)
    expected = ard.ard_forecast(x, x * active, active, mask, 3)
    for mine, plain in zip(found, expected, strict=True):
        torch.testing.assert_close(mine, plain, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("count", [1, 3])
def test_a_store_does_not_depend_on_the_others_or_on_the_threads(count: int) -> None:
    given, of_bank = rows(4, 60, 3), bank(4, 60)
    together = ard._relevance(given, 3), responses._regressions(*of_bank)
    with threads(count):
        one = ard._Rows(*(part[2:3] for part in vars(given).values()))
        alone = (
            ard._relevance(one, 3),
            responses._regressions(*(part[2:3] for part in of_bank[:3]), *of_bank[3:]),
        )
    for mine, all_stores in zip(alone, together, strict=True):
        for name, part in vars(all_stores).items():
            assert torch.equal(getattr(mine, name)[0], part[2])


def test_values_that_are_not_numbers_stay_in_their_store() -> None:
    x, active, mask = drawn(3, 60)
    x[1, 0, 30] = torch.nan
    unsigned = torch.zeros(3, 3, dtype=torch.bool)
    found = ard.ard_evidence(x, x, torch.ones_like(active), mask, unsigned, 3)
    assert found[1].isnan().any()
    assert found[[0, 2, 3, 4]].isfinite().all()
    shaped, received, *rest = bank(3, 60)
    received[1, 0, 30] = torch.nan
    factor = responses._regressions(shaped, received, *rest).factor
    assert factor[1].isnan().any()
    assert factor[[0, 2, 3, 4]].isfinite().all()


def test_the_operators_keep_torchs_rules() -> None:
    given = rows(3, 40, 2)
    series = (given.series, given.used, given.outcome, given.freedom)
    lag_scales = (1e-10, 1e3, 1e-6, 1e-6, 0.1, 1e4)
    bank_scales = (1e-8, 1e2, 1e-4, 1e-8, 0.08)
    for operator, arguments in (
        (torch.ops.causalmmm.lag_relevance, (*series, 2, 6, lag_scales)),
        (torch.ops.causalmmm.bank_relevance, (*bank(3, 40), 5, bank_scales)),
    ):
        torch.library.opcheck(operator.default, arguments)


def test_sizes_that_do_not_fit_are_refused() -> None:
    given = rows(3, 40, 2)
    series = (given.series, given.used, given.outcome, given.freedom)
    with pytest.raises(ValueError, match="a window must be longer than the lags"):
        compiled.lag_relevance(*series, 40, 6, (1e-10, 1e3, 1e-6, 1e-6, 0.1, 1e4))
    *tensors, _ = bank(3, 40)
    with pytest.raises(ValueError, match="a receiver is not one of the nodes"):
        compiled.bank_relevance(*tensors, [0, 1, 3, 1, 2], 5, (1e-8, 1e2, 1e-4, 1e-8, 0.08))
