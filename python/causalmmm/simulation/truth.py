"""What is true of simulated stores: graphs, parameters, counterfactuals without noise.

Counterfactuals are computed when asked for, by drawing the stores again from the seed; nothing here
estimates anything.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from causalmmm.simulation.config import SimulationConfig
from causalmmm.simulation.draw import CHUNK, draw_chunk, draw_shared
from causalmmm.simulation.process import Array, Stores, responses, run

if TYPE_CHECKING:
    import pandas as pd

_FORMAT = 1
_PER_STORE = (
    "stores",
    "edges",
    "effects",
    "archetype",
    "slope",
    "half_saturation",
    "levels",
    "context",
)
_ARRAYS = (*_PER_STORE, "decay", "own_memory")


@dataclass(frozen=True)
class Truth:
    """Known truth of S stores over N nodes; C paid channels come first, the target is last.

    config, seed     draw the same stores again
    stores           str [S];  nodes: N names
    edges            bool [S, N, N]; True = sender i drives receiver j (after the break, if the law
                     has one; ``earlier_edges`` tells what held before)
    effects          float32 [S, N, N]; gain of receiver j, in units of its typical level, when
                     sender i is fully saturated; 0 without an edge
    archetype        int64 [S]; which shared graph (the store's own number when graphs are not
    shared)
    decay            float32 [N]; carry-over per step of sender i; under Weibull carry-over, of the
                     geometric one with the same mean delay
    slope, half_saturation  float32 [S, N]; Hill parameters of sender i after context has moved
                     them; half-saturation in units of the sender's typical level
    own_memory       float32 [N]; how much of the effects and noise of a step remains at the next
    levels           float32 [S, N]; typical level of each series in the panel's units
    context          float32 [S, context]

    >>> from causalmmm.simulation import simulate_series
    >>> _, truth = simulate_series("paper-small", seed=0, stores=2, steps=60)
    >>> list(truth.edges_frame())[:3]
    ['store', 'source', 'target']
    """

    config: SimulationConfig
    seed: int
    stores: NDArray[np.str_]
    edges: NDArray[np.bool_]
    effects: NDArray[np.float32]
    archetype: NDArray[np.int64]
    decay: NDArray[np.float32]
    slope: NDArray[np.float32]
    half_saturation: NDArray[np.float32]
    own_memory: NDArray[np.float32]
    levels: NDArray[np.float32]
    context: NDArray[np.float32]

    @property
    def nodes(self) -> tuple[str, ...]:
        return self.config.nodes

    @property
    def channels(self) -> tuple[str, ...]:
        return self.nodes[: self.config.channels]

    @property
    def lags(self) -> NDArray[np.int64]:
        """int64 [N, N]: steps after which sender i acts on receiver j where there is an edge; 0 =
        within the step."""
        return draw_shared(self.config, self.seed).lag

    def control_effects(self, stores: Sequence[str] | None = None) -> Array:
        """float64 [stores, R]: what a unit of each control adds to the target, in its units (times
        trend and season where the law multiplies by them)."""
        parts = [drawn.control_effects * drawn.levels[:, -1:] for drawn in self._drawn(stores)]
        return np.concatenate(parts)

    def earlier_edges(self, stores: Sequence[str] | None = None) -> NDArray[np.bool_]:
        """bool [stores, N, N]: graphs before the break; the same as ``edges`` without one."""
        return np.concatenate([drawn.earlier_effects > 0.0 for drawn in self._drawn(stores)])

    def history(
        self,
        stores: Sequence[str] | None = None,
        *,
        spend: Mapping[str, ArrayLike] | None = None,
        noise: bool = False,
    ) -> Array:
        """Series float64 [stores, T, N] in the panel's units under an intervention on spend.

        ``spend`` maps a channel to a factor on its exogenous spend, one number or one per step [T];
        spend that other series induce in the channel follows from the process. With ``noise`` the
        noise that was drawn is kept, so that no intervention gives back the panel.
        """
        parts = []
        for drawn in self._drawn(stores):
            multiplier = self._multiplier(spend or {})
            parts.append(run(drawn, noise=noise, multiplier=multiplier) * drawn.levels)
        return np.concatenate(parts, axis=1).swapaxes(0, 1)

    def history_under(
        self, spend: ArrayLike, stores: Sequence[str] | None = None, *, induced: bool = True
    ) -> Array:
        """Noise-free series float64 [stores, T, N] if the exogenous spend of every channel were
        ``spend`` [stores, T, C], in the panel's units: what a plan would really have brought.

        Where other series drive spend, what they induce comes on top; without ``induced`` the plan
        is all that is spent.
        """
        planned = np.asarray(spend, float).swapaxes(0, 1)  # [T, stores, C]
        parts, begin = [], 0
        for drawn in self._drawn(stores):
            end = begin + drawn.exogenous.shape[1]
            exogenous = drawn.exogenous.copy()
            channels = planned.shape[2]
            exogenous[..., :channels] = planned[:, begin:end] / drawn.levels[:, :channels]
            planned_run = dataclasses.replace(drawn, exogenous=exogenous)
            if not induced:
                on_spend = np.arange(exogenous.shape[2]) < channels
                effects, before = (
                    np.where(on_spend, 0.0, part) for part in (drawn.effects, drawn.earlier_effects)
                )
                planned_run = dataclasses.replace(
                    planned_run, effects=effects, earlier_effects=before
                )
            parts.append(run(planned_run, noise=False) * drawn.levels)
            begin = end
        return np.concatenate(parts, axis=1).swapaxes(0, 1)

    def responses(self, stores: Sequence[str] | None = None) -> Array:
        """Saturated carry-over s_i(t) of every sender in the panel's history, [stores, T, N]."""
        parts = [responses(drawn, run(drawn, noise=True)) for drawn in self._drawn(stores)]
        return np.concatenate(parts, axis=1).swapaxes(0, 1)

    def contributions(self, stores: Sequence[str] | None = None) -> NDArray[np.float32]:
        """Each channel's contribution to the target, float32 [stores, T, C], in target units.

        The noise-free target minus the noise-free target with this channel's exogenous spend at
        zero over the whole window, all else equal: the total effect through the graph, carry-over
        from before the window not counted. Spend that another series induces in the channel stays,
        and its effect counts for that other series. Contributions add up to the joint effect of all
        channels (``history()`` minus ``history(spend={every channel: 0})``) where channels act on
        the target side by side; where one acts through another, saturation makes the parts interact
        and the sum may differ from the whole.
        """
        parts = [
            self._lost(drawn, [[name] for name in self.channels]) for drawn in self._drawn(stores)
        ]
        return np.concatenate(parts).astype(np.float32)

    def direct_contributions(self, stores: Sequence[str] | None = None) -> NDArray[np.float32]:
        """As ``contributions``, with the mediators held at what they are with all spend: what does
        not go through a mediator. ``contributions`` minus this is the indirect part."""
        every = [[name] for name in self.channels]
        parts = [self._lost(drawn, every, hold=True) for drawn in self._drawn(stores)]
        return np.concatenate(parts).astype(np.float32)

    def paths_frame(self, stores: Sequence[str] | None = None) -> pd.DataFrame:
        """Contributions over the whole window as rows: store, channel, direct, indirect, total.

        Below the channels of a store stand ``interaction`` and ``all channels``: the effect of all
        channels switched off at once, and what it has beyond the sum of single ones.
        """
        import pandas as pd

        groups = [*([name] for name in self.channels), self.channels]
        both = [
            np.concatenate([self._lost(d, groups, hold=hold).sum(1) for d in self._drawn(stores)])
            for hold in (True, False)
        ]
        direct, total = (np.insert(p, -1, p[:, -1] - p[:, :-1].sum(1), axis=1) for p in both)
        names = [*self.channels, "interaction", "all channels"]
        index = pd.MultiIndex.from_product(
            [self.stores[self._positions(stores)], names], names=["store", "channel"]
        )
        columns = {"direct": direct, "indirect": total - direct, "total": total}
        flat = {name: values.ravel() for name, values in columns.items()}
        return pd.DataFrame(flat, index=index).reset_index()

    def marginal_returns(
        self, stores: Sequence[str] | None = None, *, step: float = 1e-3
    ) -> NDArray[np.float32]:
        """d(sum of the target) / d(sum of the channel's exogenous spend), float32 [stores, C].

        Central difference of the noise-free process for a proportional change of ``step`` of the
        channel's spend over the whole window; what reaches the target after the window is not
        counted. NaN where the channel spends nothing in the window.
        """
        out = []
        for drawn in self._drawn(stores):
            ratios = []
            for c, name in enumerate(self.channels):
                more, less = (
                    run(drawn, noise=False, multiplier=self._multiplier({name: factor}))
                    for factor in (1.0 + step, 1.0 - step)
                )
                gain = (more - less)[..., -1].sum(0) * drawn.levels[:, -1]
                spent = 2.0 * step * drawn.exogenous[..., c].sum(0) * drawn.levels[:, c]
                ratios.append(
                    np.divide(gain, spent, out=np.full_like(gain, np.nan), where=spent > 0)
                )
            out.append(np.stack(ratios, axis=1).astype(np.float32))
        return np.concatenate(out)

    def edges_frame(self, stores: Sequence[str] | None = None) -> pd.DataFrame:
        """One row per store and ordered pair: store, source, target, edge, effect."""
        import pandas as pd

        rows = self._positions(stores)
        n = len(self.nodes)
        i, j = np.nonzero(~np.eye(n, dtype=bool))
        names = np.array(self.nodes)
        return pd.DataFrame(
            {
                "store": np.repeat(self.stores[rows], len(i)),
                "source": np.tile(names[i], len(rows)),
                "target": np.tile(names[j], len(rows)),
                "edge": self.edges[rows][:, i, j].ravel(),
                "effect": self.effects[rows][:, i, j].ravel(),
            }
        )

    def contributions_frame(self, stores: Sequence[str] | None = None) -> pd.DataFrame:
        """Contributions as rows: store, date, channel, contribution."""
        import pandas as pd

        rows = self._positions(stores)
        index = pd.MultiIndex.from_product(
            [self.stores[rows], self.config.dates, self.channels],
            names=["store", "date", "channel"],
        )
        values = self.contributions(stores).reshape(-1)
        return pd.DataFrame({"contribution": values}, index=index).reset_index()

    def select(self, stores: Sequence[str]) -> Truth:
        """The truth of the named stores, in the order given."""
        rows = self._positions(stores)
        return dataclasses.replace(self, **{name: getattr(self, name)[rows] for name in _PER_STORE})

    def save(self, directory: str | Path) -> Path:
        """Write ``truth.npz`` (arrays) and ``truth.json`` (configuration, seed) there."""
        directory = Path(directory)
        directory.mkdir(parents=True, exist_ok=True)
        arrays = {name: getattr(self, name) for name in _ARRAYS}
        np.savez_compressed(directory / "truth.npz", **arrays)
        header = {
            "format": _FORMAT,
            "seed": self.seed,
            "nodes": self.nodes,
            "config": dataclasses.asdict(self.config),
        }
        (directory / "truth.json").write_text(json.dumps(header, indent=2) + "\n", encoding="utf-8")
        return directory

    @classmethod
    def load(cls, directory: str | Path) -> Truth:
        """Read what ``save`` wrote; ValueError when it was written in another format."""
        directory = Path(directory)
        header = json.loads((directory / "truth.json").read_text(encoding="utf-8"))
        if header.get("format") != _FORMAT:
            raise ValueError(
                f"{directory / 'truth.json'} has format {header.get('format')}; "
                f"this version reads {_FORMAT}"
            )
        settings: dict[str, Any] = {
            k: tuple(v) if isinstance(v, list) else v for k, v in header["config"].items()
        }
        with np.load(directory / "truth.npz", allow_pickle=False) as arrays:
            stored = {name: arrays[name] for name in _ARRAYS}
        return cls(config=SimulationConfig(**settings), seed=header["seed"], **stored)

    def _lost(self, drawn: Stores, groups: Sequence[Sequence[str]], *, hold: bool = False) -> Array:
        """[B, T, groups]: noise-free target lost without the exogenous spend of each group of
        channels, in target units; with ``hold`` the mediators keep their values."""
        whole = run(drawn, noise=False)
        out = np.empty((*whole.shape[:2], len(groups)))
        for k, names in enumerate(groups):
            off = self._multiplier(dict.fromkeys(names, 0.0))
            without = run(drawn, noise=False, multiplier=off, held=whole if hold else None)
            out[..., k] = (whole[..., -1] - without[..., -1]) * drawn.levels[:, -1]
        return out.swapaxes(0, 1)

    def _positions(self, stores: Sequence[str] | None) -> NDArray[np.int64]:
        if stores is None:
            return np.arange(len(self.stores))
        position = {name: k for k, name in enumerate(self.stores)}
        unknown = [name for name in stores if name not in position]
        if unknown:
            raise KeyError(f"no such store: {', '.join(map(str, unknown[:5]))}")
        return np.array([position[name] for name in stores], dtype=np.int64)

    def _multiplier(self, spend: Mapping[str, ArrayLike]) -> Array:
        unknown = sorted(set(spend) - set(self.channels))
        if unknown:
            raise KeyError(
                f"no such channel: {', '.join(unknown)}; known: {', '.join(self.channels)}"
            )
        factors = np.ones((self.config.steps, 1, len(self.nodes)))
        for name, factor in spend.items():
            factors[:, 0, self.nodes.index(name)] = factor
        return factors

    def _drawn(self, stores: Sequence[str] | None) -> Iterator[Stores]:
        """The stores drawn again, at most a chunk at a time, in the order asked for."""
        rows = self._positions(stores)
        numbers = np.array([store_number(name) for name in self.stores[rows]])
        shared = draw_shared(self.config, self.seed)
        breaks = np.flatnonzero(np.diff(numbers // CHUNK)) + 1
        for rows_part, part in zip(np.split(rows, breaks), np.split(numbers, breaks), strict=True):
            chunk = int(part[0]) // CHUNK
            local = part - chunk * CHUNK
            drawn = draw_chunk(self.config, shared, self.seed, chunk, int(local.max()) + 1)
            if not np.array_equal(drawn.effects[local].astype(np.float32), self.effects[rows_part]):
                raise RuntimeError(
                    "drawing the stores again gives other stores; the truth was saved under "
                    "another version of numpy or of this package"
                )
            yield take(drawn, local)


def take(drawn: Stores, rows: NDArray[np.int64]) -> Stores:
    """The stores at these positions of a chunk."""
    first = (
        "effects",
        "earlier_effects",
        "slope",
        "half_saturation",
        "levels",
        "archetype",
        "context",
        "control_effects",
    )
    second = ("exogenous", "active", "noise", "controls")
    changes = {name: getattr(drawn, name)[rows] for name in first}
    changes |= {name: getattr(drawn, name)[:, rows] for name in second}
    return dataclasses.replace(drawn, **changes)


def store_name(number: int) -> str:
    """Zero-padded, so that sorting names keeps the order in which stores are drawn."""
    return f"s{number:07d}"


def store_number(name: str) -> int:
    return int(name[1:])
