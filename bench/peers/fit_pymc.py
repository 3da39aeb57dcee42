"""PyMC-Marketing on one task: a multidimensional MMM, sampled by NUTS.

Runs in build/peers/pymc. As its documentation shows it: geometric adstock, a saturation, controls,
yearly seasonality; every store's spend and sales on their own scale, since stores differ in size.
"""

from __future__ import annotations

import os
import warnings

import numpy as np
import pandas as pd
from pymc_marketing.mmm import GeometricAdstock, LogisticSaturation, MichaelisMentenSaturation
from pymc_marketing.mmm.multidimensional import MMM

from bench.peers.task import Answer, Task, main, of_draws

DRAWS, TUNE, CHAINS, LAGS = 500, 500, 2, 13
SATURATIONS = {"logistic": LogisticSaturation, "michaelis-menten": MichaelisMentenSaturation}


def fit(task: Task) -> Answer:
    warnings.simplefilter("ignore")
    frame = task.frame
    trend = task.calendar()[:, 0]
    frame["trend"] = np.tile(trend, len(task.stores))
    several = len(task.stores) > 1
    dims = (task.store,) if several else ()
    own_scale = {"method": "max", "dims": ()}
    model = MMM(
        date_column=task.date,
        channel_columns=task.channels,
        target_column=task.target,
        control_columns=[*task.controls, "trend"],
        dims=dims,
        scaling={"channel": own_scale, "target": own_scale},
        adstock=GeometricAdstock(l_max=LAGS),
        saturation=SATURATIONS[os.environ["SATURATION"]](),
        yearly_seasonality=2,
    )
    seen = np.tile(np.arange(task.weeks) < task.train, len(task.stores))
    columns = [task.date, *dims, *task.channels, *task.controls, "trend"]
    past, future = frame.loc[seen, columns], frame.loc[~seen, columns]
    model.fit(
        past.reset_index(drop=True),
        frame.loc[seen, task.target].reset_index(drop=True),
        draws=DRAWS,
        tune=TUNE,
        chains=CHAINS,
        cores=1,
        nuts_sampler=os.environ.get("SAMPLER", "pymc"),
        progressbar=False,
        random_seed=task.seed,
    )
    posterior = model.idata.posterior
    scale = model.get_scales_as_xarray()["target_scale"]
    parts = (posterior["channel_contribution"] * scale).sum("date")
    drawn = model.sample_posterior_predictive(
        future.reset_index(drop=True),
        include_last_observations=True,
        extend_idata=False,
        random_seed=task.seed,
        progressbar=False,
    )["y"]
    drawn = drawn * scale
    stores = (
        {task.store: pd.Index(sorted(task.stores))} if several else {}
    )  # its order, which is ours
    parts = parts.stack(sample=("chain", "draw")).transpose("sample", *dims, "channel")
    drawn = drawn.transpose("sample", *dims, "date")
    if several:
        parts, drawn = parts.sel(stores), drawn.sel(stores)
    shape = (-1, len(task.stores))
    return of_draws(
        drawn.to_numpy().reshape(*shape, task.holdout),
        parts.sel(channel=task.channels).to_numpy().reshape(*shape, len(task.channels)),
    )


if __name__ == "__main__":
    main(fit, ("pymc-marketing", "pymc", "numpyro"))
