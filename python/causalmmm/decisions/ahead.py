"""The steps after the history: the money of a plan there, and what the model takes of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from causalmmm.data.panel import Panel
from causalmmm.data.plan import Plan
from causalmmm.decisions.period import Floats, Stores, last_year_money, recent_input
from causalmmm.findings import first_few, refusal


@dataclass(frozen=True)
class Ahead:
    """Money of every store's paid channels over W steps, and what turns it into input.

    money [S, W, C], of the current plan;  per_money [S, C], the model's input per unit of money;
    seen [S, C], the most money of a step;  dates datetime64 [S, W].
    """

    money: Floats
    per_money: Floats
    seen: Floats
    dates: Any


def following(panel: Panel, ahead: Ahead, stores: Stores, tail: int) -> Floats:
    """[B, W + tail, senders]: input under the current plan; afterwards, and for organic channels
    all along, what the last steps had on average."""
    steps, paid = ahead.money.shape[1:]
    given = recent_input(panel, stores, steps + tail, 4 * tail)
    given[:, :steps, :paid] = ahead.money[stores] * ahead.per_money[stores][:, None]
    return given


def money_ahead(panel: Panel, plan: Plan | None, steps: int, dates: Any) -> Ahead:
    """The current plan: what ``plan`` says, else each channel's mean over the last year."""
    channels = list(panel.schema.channels)
    paid = len(channels)
    unpriced = [n for n, c in enumerate(panel.schema.channels.values()) if c.spend is None]
    if unpriced:
        names = first_few(channels[n] for n in unpriced)
        raise refusal(
            "no-spend",
            f"Budgets need the money of every channel; {names} have only exposure.",
            "Name their spend columns in the schema, or make them organic channels.",
        )
    if not paid:
        raise refusal("no-channel", "The panel has no paid channel to plan.", "Name one.")
    per_money = input_per_money(panel)
    money = np.repeat(last_year_money(panel)[:, None], steps, 1)
    if plan is not None:
        for k, name in enumerate(plan.series):
            if name in channels:
                c = channels.index(name)
                rate = np.where(per_money[:, c] > 0, per_money[:, c], 1)
                money[..., c] = plan.values[:, :steps, k] / rate[:, None]
    seen = np.maximum.reduceat(panel.spend.astype(np.float64), panel.data.offsets[:-1])
    return Ahead(money, per_money, seen, dates)


def input_per_money(panel: Panel) -> Floats:
    """[S, C]: input of every paid channel per unit of money over a store's history; where it has
    spent none, over all stores'."""
    begin, paid = panel.data.offsets[:-1], panel.spend.shape[1]
    total = np.add.reduceat(panel.data.values[:, :paid].astype(np.float64), begin)
    money = np.add.reduceat(panel.spend.astype(np.float64), begin)
    common = total.sum(0) / np.where(money.sum(0) > 0, money.sum(0), 1)
    rate: Floats = np.where(money > 0, total / np.where(money > 0, money, 1), common)
    return rate


def plan_frame(panel: Panel, ahead: Ahead, money: Floats, plan: Plan | None) -> pd.DataFrame:
    """The money [S, W, C] as a plan: a row per store and date, with the known controls of the
    current plan."""
    schema, steps = panel.schema, money.shape[1]
    columns: dict[str, Any] = {}
    if schema.store is not None:
        columns[schema.store] = np.repeat(panel.stores.astype(object), steps)
    columns[schema.date] = ahead.dates.astype("datetime64[s]").ravel()
    for c, channel in enumerate(schema.channels.values()):
        assert channel.spend is not None
        columns[channel.spend] = money[..., c].ravel()
    if plan is not None:
        for r, name in enumerate(schema.control_names):
            values = plan.controls[:, :steps, r]
            if name in schema.known_controls and not np.isnan(values).any():
                columns[name] = values.ravel()
    return pd.DataFrame(columns)
