"""Weekly panels of simulated shoppers by graphsimulacrum: no adstock and no Hill curve anywhere.

After its two reference worlds. Media are planned, people see them, remember and forget, search,
and buy by a logistic choice; in the clean world plans do not know demand, in the confounded one
they follow its season, which is hidden. The third world hides a demand that no calendar knows.
"""

from __future__ import annotations

import numpy as np

from bench.external.world import World

WEEKS, PEOPLE, CHANNELS = 156, 3000, 5
WORLDS = {
    "graphsimulacrum, clean": (0.0, 0.0),
    "graphsimulacrum, confounded": (0.6, 0.0),  # share of the plan that follows season, demand
    "graphsimulacrum, hidden demand": (0.0, 0.4),
}


def agents(name: str, stores: int) -> World:
    """Stores of one world, each with a graph of its own."""
    _register()
    drawn = [_store(name, np.random.default_rng([7, k])) for k in range(stores)]
    series, edges = (np.stack(part) for part in zip(*drawn, strict=True))
    roles = (*("channel",) * CHANNELS, "mediator", "target")
    return World(name, "graphsimulacrum", series, edges, roles, "W-MON")


def _store(name: str, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Series [T, N] and edges [N, N]: channels, searches, sales."""
    import graphsimulacrum

    season, demand = WORLDS[name]
    seed = int(rng.integers(1 << 30))
    media = [f"m{k}" for k in range(CHANNELS)]
    edges = np.zeros((CHANNELS + 2, CHANNELS + 2), bool)
    edges[:CHANNELS, -1] = rng.random(CHANNELS) < 0.6
    edges[:CHANNELS, -2] = rng.random(CHANNELS) < 0.3
    edges[-2, -1] = True
    nodes: dict[str, dict] = {
        "season": {"class": "macro", "mechanism": "fourier_seasonal", "params": {"amplitude": 1.0}},
        "demand": {"class": "macro", "mechanism": "demand", "params": {"seed": seed}},
        "likes": {"class": "agent_trait", "distribution": {"beta": {"alpha": 2.0, "beta": 5.0}}},
    }
    for k, medium in enumerate(media):
        nodes[medium] = {
            "class": "intervention",
            "mechanism": "campaigns",
            "params": {
                "seed": seed + k + 1,
                "on_share": float(rng.uniform(0.4, 1.0)),
                "weeks": int(rng.integers(1, 6)),
                "on_season": season,
                "on_demand": demand,
                "demand_seed": seed,
            },
        }
        nodes[f"seen_{medium}"] = {
            "class": "agent_flow",
            "parents": [medium, "likes"],
            "mechanism": "poisson_exposure",
            "params": {"reach_efficiency": float(rng.uniform(0.5, 1.5))},
        }
        nodes[f"kept_{medium}"] = {
            "class": "agent_state",
            "parents": [f"seen_{medium}", f"kept_{medium}@t-1"],
            "mechanism": "leaky_accumulator",
            "params": {"decay": float(rng.uniform(0.1, 0.7))},
        }

    def weights(receiver: int) -> dict[str, float]:
        decays = [nodes[f"kept_{m}"]["params"]["decay"] for m in media]
        size = rng.uniform(0.3, 1.0, CHANNELS) * np.array(decays)  # of memories of like size
        return {f"w{k}": float(size[k] * edges[k, receiver]) for k in range(CHANNELS)}

    kept = [f"kept_{m}" for m in media]
    nodes["search"] = {
        "class": "agent_flow",
        "parents": [*kept, "season", "demand"],
        "mechanism": "choice",
        "params": {**weights(-2), "base": 0.05, "w_season": 0.2, "w_demand": 0.4},
    }
    nodes["buy"] = {
        "class": "agent_flow",
        "parents": [*kept, "season", "demand", "search"],
        "mechanism": "choice_after_search",
        "params": {**weights(-1), "base": 0.03, "w_season": 0.3, "w_demand": 0.4, "w_search": 2.0},
    }
    spec = {
        "meta": {"name": name},
        "calendar": {"start_date": "2022-01-03", "ticks": 7 * WEEKS},
        "population": {"n_agents": PEOPLE, "universe_size": PEOPLE},
        "nodes": nodes,
        "observables": {"searches": {"sum_of": "search"}, "sales": {"sum_of": "buy"}},
    }
    plan = graphsimulacrum.compile(graphsimulacrum.Spec.model_validate(spec))
    panel = graphsimulacrum.Runner(plan, seed=seed).run().panel_true
    columns = [*media, "searches", "sales"]
    return np.stack([panel[c].to_numpy().astype(float) for c in columns], axis=1), edges


def _register() -> None:
    """Plans and choices that the package does not bring, in its own words."""
    from graphsimulacrum.mechanisms import mechanism

    if "campaigns" in mechanism:
        return

    @mechanism.register("demand")
    def demand(*, seed: float, tick: int) -> float:
        return _demand(int(seed))[tick // 7]

    @mechanism.register("campaigns")
    def campaigns(
        *,
        seed: float,
        on_share: float,
        weeks: float,
        on_season: float,
        on_demand: float,
        demand_seed: float,
        tick: int,
    ) -> float:
        week = tick // 7
        on = np.random.default_rng([int(seed), week // int(weeks)]).random() < on_share
        noise = np.random.default_rng([int(seed), week, 1]).normal(0.0, 0.4)
        follows = 1.0 + on_season * np.sin(2.0 * np.pi * tick / 365.25)
        follows *= np.exp(on_demand * _demand(int(demand_seed))[week])
        return float(on * np.exp(noise) * follows)

    @mechanism.register("choice", output_dtype="bool")
    def choice(
        a, b, c, d, e, season, demand, *, w0, w1, w2, w3, w4, base, w_season, w_demand, xp, rng
    ):  # type: ignore[no-untyped-def]
        utility = np.log(base / (1.0 - base)) + w0 * a + w1 * b + w2 * c + w3 * d + w4 * e
        utility = utility + w_season * season + w_demand * demand
        return rng.uniform(size=len(a)) < 1.0 / (1.0 + np.exp(-utility))

    @mechanism.register("choice_after_search", output_dtype="bool")
    def choice_after_search(
        a, b, c, d, e, season, demand, search,
        *, w0, w1, w2, w3, w4, base, w_season, w_demand, w_search, xp, rng,
    ):  # type: ignore[no-untyped-def]  # fmt: skip
        utility = np.log(base / (1.0 - base)) + w0 * a + w1 * b + w2 * c + w3 * d + w4 * e
        utility = utility + w_season * season + w_demand * demand + w_search * search
        return rng.uniform(size=len(a)) < 1.0 / (1.0 + np.exp(-utility))


def _demand(seed: int) -> list[float]:
    """Of every week: an autoregression that nothing on record knows."""
    if seed not in _DEMANDS:
        shocks, level = np.random.default_rng([seed, 99]).normal(size=WEEKS), 0.0
        _DEMANDS[seed] = []
        for shock in shocks:
            level = 0.8 * level + 0.6 * float(shock)
            _DEMANDS[seed].append(level)
    return _DEMANDS[seed]


_DEMANDS: dict[int, list[float]] = {}
