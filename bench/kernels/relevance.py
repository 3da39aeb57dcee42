"""The evidence's regressions under relevance priors: compiled operators beside plain PyTorch.

    python -m bench.kernels.relevance --out bench/results

One store on one thread, both in float64, median of ``--rounds`` in turns: every receiver on seven
lags of all series (``engine.evidence.ard``), and on a bank of four responses of each
(``engine.prior.responses``). ``gflops`` are those of the compiled operator, where a regression of M
columns and T rows counts T M² for its products, once where all receivers have the same rows, and
2/3 M³ for each round's inverse of a factor. ``difference`` is the largest of log Bayes factors.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median

import torch
from torch import Tensor

from bench.lib.record import Row, record, table
from causalmmm.engine.evidence import ard
from causalmmm.engine.prior import responses
from causalmmm.kernels import evidence as compiled

LAGS = 7
SIZES = ((6, 104), (14, 156), (13, 670), (33, 208))  # series and steps
_Factors = Callable[[], Tensor]


def main(arguments: Sequence[str] | None = None) -> list[Row]:
    options = _parser().parse_args(arguments)
    torch.set_num_threads(1)
    rows = [
        {"regressions": name, "series": nodes, "steps": steps}
        | measured(fused, plain, flops, options.rounds)
        for nodes, steps in options.sizes
        for name, fused, plain, flops in (on_lags(nodes, steps), on_responses(nodes, steps))
    ]
    shown = ["plain_ms", "compiled_ms", "ratio", "gflops", "difference"]
    print(table(rows, ["regressions", "series", "steps"], shown))
    if options.out is not None:
        record(options.out, "relevance", rows, vars(options))
    return rows


def on_lags(nodes: int, steps: int) -> tuple[str, _Factors, _Factors, float]:
    """Name, both forms and floating-point operations."""
    x, everywhere = _series(nodes, steps), torch.ones(1, nodes, steps)
    given = ard._rows_of(x, x, everywhere, everywhere[:, 0].bool(), LAGS)
    size = nodes * LAGS
    flops = steps * size**2 + nodes * (ard._ITERATIONS + 1) * 2 / 3 * size**3
    return (
        "lags",
        lambda: ard._relevance(given, LAGS).factor,
        lambda: ard._plain_relevance(given, LAGS).factor,
        flops,
    )


def on_responses(nodes: int, steps: int) -> tuple[str, _Factors, _Factors, float]:
    """The same of the bank, every receiver once with senders a step back and once within it."""
    x = _series(nodes, steps)
    bank = torch.stack([x, x.square(), x.tanh(), x.cos()], -1).transpose(1, 2).contiguous()
    used = torch.ones(1, nodes, steps - max(responses._OWN_LAGS), dtype=x.dtype)
    earlier = torch.ones(nodes, nodes).tril(-1).bool()
    given = bank, x, used, torch.cat([torch.zeros_like(earlier), earlier]), [*range(nodes)] * 2
    size = nodes * bank.shape[-1] + len(responses._OWN_LAGS)
    flops = 2 * nodes * (steps * size**2 + (responses._ITERATIONS + 1) * 2 / 3 * size**3)
    return (
        "responses",
        lambda: responses._regressions(*given).factor,
        lambda: responses._plain_regressions(*given).factor,
        flops,
    )


def measured(fused: _Factors, plain: _Factors, flops: float, rounds: int) -> Row:
    spent: dict[_Factors, list[float]] = {fused: [], plain: []}
    for _ in range(rounds):
        for form, seconds in spent.items():
            begin = time.perf_counter()
            form()
            seconds.append(time.perf_counter() - begin)
    quick, slow = (median(spent[form]) for form in (fused, plain))
    return {
        "plain_ms": 1e3 * slow,
        "compiled_ms": 1e3 * quick,
        "ratio": slow / quick,
        "gflops": flops / quick / 1e9,
        "difference": float((fused() - plain()).abs().max()),
    }


def _series(nodes: int, steps: int) -> Tensor:
    rng = torch.Generator().manual_seed(0)
    x = torch.randn(1, nodes, steps, generator=rng, dtype=torch.float64)
    x[:, 1, 1:] += 0.5 * x[:, 0, :-1]
    return x


def _size(text: str) -> tuple[int, int]:
    nodes, steps = text.split("x")
    return int(nodes), int(steps)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--sizes", nargs="+", type=_size, default=SIZES, help="as 14x156")
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--out", type=Path)
    return parser


if __name__ == "__main__":
    if not compiled.relevance_supported(torch.empty(1, dtype=torch.float64)):
        raise SystemExit("the extension is not built: there is nothing to compare")
    main()
