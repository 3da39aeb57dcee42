"""The pretrained prior on stores that nothing was fitted on, each alone: graphs, calibration, time.

    python -m bench.experiments.pretrained --out bench/results

Presets of the simulator, the training families (other draws than those trained on) and the families
held out; beside per-store evidence (``eb-granger-7``: 15 % of edges; ``store-evidence``: what the
package falls back to), the receiver's variance, and the constant that knows how often each pair of
kinds has an edge in the laws. ``panel`` rows let the prior see the other stores of the draw.

``beside_evidence`` is the mean difference in AUROC to per-store evidence on the same stores, and
``standard_error`` its standard error over draws. Families held out have more draws than others:
what the prior may lose there at most is less than twelve draws can tell.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from bench.experiments.baselines.evidence import edge_probability, group_evidence
from bench.experiments.baselines.trivial import receiver_variance
from bench.lib.metrics import edge_metrics, pair_calibration
from bench.lib.options import with_defaults
from bench.lib.record import Row, table
from bench.lib.result_log import ResultLog
from causalmmm.engine.nn.pretrained import usual_log_odds
from causalmmm.engine.prior import Prior, shipped_prior
from causalmmm.model.pretraining import law_statistics
from causalmmm.simulation import simulate_series
from causalmmm.simulation.laws import HELD_OUT, TRAINING, LawDraw, draw_law
from causalmmm.simulation.laws.draw import positive_pairs

Array = NDArray[np.float64]
# preset -> changes, stores of a draw, draws
PRESETS: dict[str, tuple[str, dict[str, int], int, int]] = {
    "paper-small": ("paper-small", {}, 50, 2),
    "paper-small, 8 stores": ("paper-small", {}, 8, 6),
    "airmmm": ("airmmm", {}, 15, 2),
    "weekly-mmm, 104 weeks": ("weekly-mmm", {"steps": 104}, 8, 6),
    "weekly-mmm, 156 weeks": ("weekly-mmm", {}, 8, 6),
    "weekly-foreign": ("weekly-foreign", {}, 8, 4),
}
SEED = 1_000_000  # of laws drawn here; the ones trained on have random seeds far from it
HELD_OUT_SEED = 5_000_000  # draws that nobody looked at while the prior was chosen
DRAWS, HELD_OUT_DRAWS = 12, 60
STORES = 4
EVIDENCE = "store-evidence"
VALUES = ["auroc", "auprc", "pooled_auroc", "ece", "beside_evidence", "standard_error", "ms"]
QUICK = {"draws": 2}


def main(arguments: Sequence[str] | None = None) -> list[Row]:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--laws", nargs="+", help="some of the laws")
    parser.add_argument(
        "--draws", type=int, help="of every family (12; 60 held out), of presets at most"
    )
    parser.add_argument("--again", action="store_true", help="measure rows again that are there")
    parser.add_argument("--quick", action="store_true", help="small, into runs/ unless --out")
    parser.add_argument("--out", type=Path)
    options = with_defaults(parser.parse_args(arguments), {"draws": None}, QUICK)
    torch.set_num_threads(1)
    prior = shipped_prior()
    log = ResultLog(options.out, "pretrained", vars(options))
    for law, role, draws in _laws(options.draws):
        if options.laws is None or law in options.laws:
            key = {"role": role, "law": law, "draws": len(draws)}
            key["prior"] = str(prior.record["sha256"])[:8]
            log.add(key, partial(measured, draws, prior))
    print(table(log.rows, ["role", "law", "method"], VALUES, "stores alone, never fitted"))
    return log.rows


def _laws(draws: int | None) -> Iterator[tuple[str, str, list[Callable[[], LawDraw]]]]:
    """Name, role in training and draws of every law."""
    for name, (preset, changes, stores, count) in PRESETS.items():
        some = [
            partial(preset_draw, preset, seed, stores, changes)
            for seed in range(5, 5 + min(count, draws or count))
        ]
        yield name, "preset", some
    for name in TRAINING:
        seeds = range(SEED, SEED + (draws or DRAWS))
        yield name, "trained on", [partial(draw_law, name, seed, STORES) for seed in seeds]
    for name in HELD_OUT:
        seeds = range(HELD_OUT_SEED, HELD_OUT_SEED + (draws or HELD_OUT_DRAWS))
        yield name, "held out", [partial(draw_law, name, seed, STORES) for seed in seeds]


def preset_draw(preset: str, seed: int, stores: int, changes: dict[str, int]) -> LawDraw:
    data, truth = simulate_series(preset, seed=seed, stores=stores, **changes)
    return LawDraw(data, truth.edges, positive_pairs(truth.config.roles))


def measured(draws: Sequence[Callable[[], LawDraw]], prior: Prior) -> list[Row]:
    """A row per method over all draws of a law."""
    found = [_estimates(draw(), prior) for draw in draws]
    rows = []
    evidence = [(scores[EVIDENCE], edges) for scores, edges, _ in found]
    for method in found[0][0]:
        parts = [(scores[method], edges) for scores, edges, _ in found]
        row: Row = {"method": method, **_metrics(parts)}
        if method.startswith("pretrained"):
            row |= paired_difference(parts, evidence)
        seconds = [s[method] for _, _, s in found if method in s]
        rows.append(row | {"ms": 1000 * float(np.median(seconds)) if seconds else None})
    return rows


def _estimates(
    draw: LawDraw, prior: Prior
) -> tuple[dict[str, Array], NDArray[np.bool_], dict[str, float]]:
    """Scores [S, N, N] of every method, edges, and CPU seconds a store."""
    began = time.process_time()
    kind, statistics = law_statistics(draw)
    stores = len(draw.edges)
    reading = (time.process_time() - began) / stores
    with torch.no_grad():
        alone = prior.network(statistics.features).sigmoid()
        states = prior.network.states(statistics.features)
        mean = states[1].mean(0, keepdim=True)
        panel = prior.network.logits(states, mean, torch.tensor([float(stores)])).sigmoid()
    usual = usual_log_odds(kind.roles, prior.network)
    series = draw.data.values.reshape(stores, -1, draw.data.n_nodes).astype(float)
    period = 7 if draw.data.freq == "D" else 1
    began = time.process_time()
    evidence = edge_probability(group_evidence(series, 7, period=period))
    seconds = {"pretrained": reading, "eb-granger-7": (time.process_time() - began) / stores}
    scores = {
        "pretrained": alone.double().numpy(),
        "pretrained, panel": panel.double().numpy(),
        EVIDENCE: torch.sigmoid(statistics.log_bf - 1.735).double().numpy(),
        "eb-granger-7": evidence,
        "receiver-variance": receiver_variance(series),
        "usual frequency": usual.sigmoid().expand_as(alone).double().numpy(),
    }
    return scores, draw.edges, seconds


def paired_difference(
    ours: list[tuple[Array, NDArray[np.bool_]]], others: list[tuple[Array, NDArray[np.bool_]]]
) -> Row:
    """Mean over stores of the difference in AUROC on the same draws, and its standard error.

    Stores of a draw share a law, so the error is that of a ratio of sums over draws.
    """
    sums, counts = [], []
    for (a, edges), (b, _) in zip(ours, others, strict=True):
        if _mixed(edges):
            rows = [edge_metrics(scores, edges) for scores in (a, b)]
            if rows[0]["stores"]:
                counts.append(rows[0]["stores"])
                sums.append(counts[-1] * (rows[0]["auroc"] - rows[1]["auroc"]))
    if len(counts) < 2:
        return {}
    mean = sum(sums) / sum(counts)
    apart = np.array(sums) - mean * np.array(counts)
    scale = np.sqrt(len(counts) / (len(counts) - 1.0)) / sum(counts)
    return {"beside_evidence": mean, "standard_error": float(scale * np.linalg.norm(apart))}


def _mixed(edges: NDArray[np.bool_]) -> bool:
    """Whether some pairs of a draw have an edge and some have none."""
    return bool(0 < edges.sum() < edges.size - len(edges) * edges.shape[-1])


def _metrics(parts: list[tuple[Array, NDArray[np.bool_]]]) -> Row:
    """Means over all stores of all draws; calibration over all their pairs at once."""
    rows = []
    for scores, edges in parts:
        if _mixed(edges):
            rows.append(edge_metrics(scores, edges))
    weight = np.array([row["stores"] for row in rows])
    metrics: Row = {}
    for name in ("auroc", "auprc", "pooled_auroc"):
        values = np.array([row[name] for row in rows])
        counted = weight * np.isfinite(values)
        total = np.nansum(values * weight)
        metrics[name] = float(total / counted.sum()) if counted.sum() else float("nan")
    off = [~np.eye(edges.shape[-1], dtype=bool) for _, edges in parts]
    p = np.concatenate([s[:, o].ravel() for (s, _), o in zip(parts, off, strict=True)])
    e = np.concatenate([t[:, o].ravel() for (_, t), o in zip(parts, off, strict=True)])
    if p.min() >= 0 and p.max() <= 1:
        metrics |= pair_calibration(p, e)
    return metrics


if __name__ == "__main__":
    main()
