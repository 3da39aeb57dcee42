"""Meridian on one task: a geo-level model with its default priors, sampled by NUTS.

Runs in build/peers/meridian. The season is given as Fourier controls, the trend as a line, since
knots say nothing of the future; a store's mean sales stand for its population.
"""

from __future__ import annotations

import warnings

import numpy as np
from meridian.analysis import analyzer
from meridian.data import data_frame_input_data_builder
from meridian.model import model, spec

from bench.peers.task import Answer, Task, main, of_draws

ADAPT, BURN_IN, KEEP, CHAINS, LAGS = 500, 200, 500, 2, 13


def fit(task: Task) -> Answer:
    warnings.simplefilter("ignore")
    several = len(task.stores) > 1
    hidden = np.arange(task.weeks) >= task.train
    frame = task.frame
    usual = frame.groupby(task.store)[task.target].transform("mean")
    # Hidden sales are replaced before the model sees them; they take part in its scaling otherwise.
    frame["kpi"] = frame[task.target].fillna(usual)
    frame["population"] = usual
    calendar = task.calendar()
    waves = [f"calendar{k}" for k in range(calendar.shape[1])]
    frame[waves] = np.tile(calendar, (len(task.stores), 1))
    frame["time"] = frame[task.date].dt.strftime("%Y-%m-%d")
    frame["revenue_per_kpi"] = 1.0
    frame = frame.rename(columns={task.store: "geo"})
    if not several:
        frame = frame.drop(columns="geo")
    build = data_frame_input_data_builder.DataFrameInputDataBuilder(kpi_type="revenue")
    build = build.with_kpi(frame).with_controls(frame, control_cols=[*task.controls, *waves])
    if several:
        build = build.with_population(frame)
    data = build.with_media(
        frame,
        media_cols=task.channels,
        media_spend_cols=task.channels,
        media_channels=task.channels,
    ).build()
    held = np.broadcast_to(hidden, (len(task.stores), task.weeks)) if several else hidden
    settings = spec.ModelSpec(knots=1, max_lag=LAGS, holdout_id=held.copy())
    mmm = model.Meridian(input_data=data, model_spec=settings)
    mmm.sample_posterior(
        n_chains=CHAINS, n_adapt=ADAPT, n_burnin=BURN_IN, n_keep=KEEP, seed=task.seed
    )
    asked = analyzer.Analyzer(model_context=mmm.model_context, inference_data=mmm.inference_data)
    times = list(dict.fromkeys(frame["time"]))
    parts = np.asarray(
        asked.incremental_outcome(
            aggregate_geos=False, selected_times=times[: task.train], aggregate_times=True
        )
    )
    means = np.asarray(
        asked.expected_outcome(
            aggregate_geos=False, aggregate_times=False, selected_times=times[task.train :]
        )
    )
    order = [list(data.geo.values).index(store) for store in task.stores] if several else [0]
    parts = parts.reshape(-1, len(task.stores), len(task.channels))[:, order]
    means = means.reshape(-1, len(task.stores), task.holdout)[:, order]
    sigma = np.asarray(mmm.inference_data.posterior["sigma"]).reshape(len(means), -1, 1)
    size = frame["population"].to_numpy().reshape(-1, task.weeks)[:, :1] if several else 1.0
    unit = float(np.asarray(mmm.model_context.kpi_transformer.population_scaled_stdev)) * size
    noise = np.random.default_rng(task.seed).standard_normal(means.shape)
    return of_draws(means + sigma * unit * noise, parts)


if __name__ == "__main__":
    main(fit, ("google-meridian", "jax"))
