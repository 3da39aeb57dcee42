"""Share of training time that the response operator takes, before and after its extension.

    python -m bench.kernels.response_share --out bench/results

Trains the same model on the same stores three times: with the plain PyTorch operator, with the
compiled one, and with none (the exposure itself, free of charge). The share is what the last run
saves. Rates are of the fastest epoch after the first.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from bench.lib.record import Row, record, table
from causalmmm.engine.nn import decoder
from causalmmm.kernels import adstock_hill
from causalmmm.kernels.response import backend, reference
from causalmmm.model.estimator import CausalMMM
from causalmmm.simulation import simulate


def absent(
    x: Tensor, decay: Tensor, slope: Tensor, half_saturation: Tensor, initial: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """The exposure, in the shapes of a response. Every parameter still takes part, by its mean."""
    shift = decay.mean() + slope.mean() + half_saturation.mean()
    rows = torch.broadcast_shapes(x.shape[:-1], decay.shape[:-1])
    return x.expand(*rows, x.shape[-1]) + shift, x[..., -1].expand(rows)


OPERATORS: dict[str, Callable[..., tuple[Tensor, Tensor]]] = {
    "plain PyTorch": reference.adstock_hill,
    "compiled": adstock_hill,
    "none": absent,
}


def main(arguments: Sequence[str] | None = None) -> list[Row]:
    options = _parser().parse_args(arguments)
    if backend(torch.empty(1, device=options.device)) != "compiled":
        raise SystemExit("the extension is not built for this device: there is nothing to compare")
    panel, _ = simulate("paper-small", stores=options.stores, seed=0)
    settings = {"epochs": options.epochs, "patience": options.epochs + 1, "seed": 0, "hidden": 32}
    rows: list[Row] = []
    for name, operator in OPERATORS.items():
        decoder.adstock_hill = operator
        model = CausalMMM(**settings, device=options.device).fit(panel, progress=False)
        rate = float(model.history_["stores_per_second"].iloc[1:].max())
        rows.append({"operator": name, "stores_per_second": rate, "epoch": options.stores / rate})
    decoder.adstock_hill = adstock_hill
    without = next(row["epoch"] for row in rows if row["operator"] == "none")
    for row in rows:
        row["seconds_per_epoch"] = row.pop("epoch")
        row["operator_share"] = 1 - without / row["seconds_per_epoch"]
    print(table(rows, ["operator"], ["stores_per_second", "seconds_per_epoch", "operator_share"]))
    record(options.out, f"response-share-{options.device}", rows, vars(options))
    return rows


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--stores", type=int, default=2000)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--out", type=Path, default=Path("bench/results"))
    return parser


if __name__ == "__main__":
    main()
