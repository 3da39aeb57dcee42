"""What must not matter does not: order, company, units, offsets of controls, whole years.

The regression is searched for: its search ends where a step gains next to nothing, so that a
rounding of inputs moves its answers along a ridge. They are compared as shares of the intervals
that the model itself states. Where inputs keep their bits, answers keep theirs.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from pandas.testing import assert_frame_equal

from causalmmm import CausalMMM, Panel
from causalmmm.engine.regression.posterior import know
from causalmmm.model.answers import observed_stores
from causalmmm.simulation import simulate

SPEND = ["x0", "x1", "x2"]
MONEY = [*SPEND, "gmv"]
EXACT = 2.0**10  # a change of units that changes no digit of a float
# Roundings move contributions by up to 0.013 of their 90 % intervals here, probabilities by 0.008.
SEARCHED, SEARCHED_PROBABILITY = 0.05, 0.02
# Adam steps by the learning rate where a gradient is nothing but rounding, so that is low here.
AMORTISED = {"structure": "evidence", "epochs": 1, "steps": 4, "window": 20, "learning_rate": 1e-3}

# Doubts about a fit of four updates, and about controls without a plan, are not what is tested.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")

Fit = Callable[[pd.DataFrame], CausalMMM]

panel, _ = simulate("weekly-mmm", seed=0, stores=3, steps=60, channels=3)
TABLE = panel.to_frame()
STORES = panel.stores.tolist()


def read(table: pd.DataFrame) -> Panel:
    return Panel.from_frame(table, panel.schema)


def regression(table: pd.DataFrame) -> CausalMMM:
    return CausalMMM(regime="regression").fit(read(table), progress=False)


def amortised(table: pd.DataFrame) -> CausalMMM:
    model = CausalMMM(regime="amortised", device="cpu", **AMORTISED)
    return model.fit(read(table), progress=False)


def answers(model: CausalMMM, table: pd.DataFrame | None = None) -> dict[str, pd.DataFrame]:
    asked = None if table is None else read(table)
    frames = {"graphs": model.graphs(asked), "forecasts": model.predict(asked, horizon=3)}
    if model.regime_ == "regression":
        frames["contributions"] = model.contributions(asked)
    return frames


def of_store(frames: dict[str, pd.DataFrame], store: str) -> dict[str, pd.DataFrame]:
    return {
        name: frame[frame["store"] == store].drop(columns="store").reset_index(drop=True)
        for name, frame in frames.items()
    }


def assert_same(
    first: dict[str, pd.DataFrame], second: dict[str, pd.DataFrame], rtol: float = 0.0
) -> None:
    """Equal labels, and numbers within ``rtol`` of the largest of their column."""
    for name, frame in first.items():
        numbers = frame.select_dtypes("floating").columns
        labels = frame.columns.difference(numbers)
        assert_frame_equal(frame[labels], second[name][labels])
        for column in numbers:
            reach = rtol * float(frame[column].abs().max())
            np.testing.assert_allclose(
                second[name][column], frame[column], rtol=0, atol=reach, err_msg=f"{name} {column}"
            )


def moved(first: CausalMMM, second: CausalMMM, unit: float = 1.0) -> tuple[float, float]:
    """How far the second model is from the first: the largest move of a total contribution as a
    share of its interval, and of an edge's probability."""
    before, after = first.contributions(), second.contributions()
    spend = before["series"].isin(SPEND)
    before, after = before[spend], after[spend]
    interval = before["total_upper"] - before["total_lower"]
    share = (after["total"] / unit - before["total"]).abs() / interval
    probability = second.graphs()["probability"] - first.graphs()["probability"]
    return float(share.max()), float(probability.abs().max())


def assert_found_again(first: CausalMMM, second: CausalMMM, unit: float = 1.0) -> None:
    share, probability = moved(first, second, unit)
    assert share < SEARCHED
    assert probability < SEARCHED_PROBABILITY


@pytest.fixture(scope="module")
def fitted() -> CausalMMM:
    return regression(TABLE)


@pytest.fixture(scope="module")
def trained() -> CausalMMM:
    return amortised(TABLE)


@pytest.mark.parametrize("fit", [regression, amortised])
def test_the_order_of_rows_and_columns_does_not_matter(
    fit: Fit, fitted: CausalMMM, trained: CausalMMM
) -> None:
    model = fitted if fit is regression else trained
    shuffled = TABLE.sample(frac=1, random_state=0)[TABLE.columns[::-1]]
    assert_same(answers(model), answers(fit(shuffled)))


def test_company_does_not_matter(trained: CausalMMM) -> None:
    model = trained
    everyone = answers(model)
    for store in STORES:
        alone = answers(model, TABLE[TABLE["shop_id"] == store])
        # Batches of other sizes are summed in another order: single precision.
        assert_same(of_store(everyone, store), of_store(alone, store), rtol=1e-5)
    first = TABLE[TABLE["shop_id"] == STORES[0]].assign(shop_id="a new first store")
    company = answers(model, pd.concat([first, TABLE]))
    assert_same(of_store(everyone, STORES[1]), of_store(company, STORES[1]), rtol=1e-5)


def shifted_first() -> pd.DataFrame:
    """The first store begins two weeks late, and loses a third of its sales for half a year."""
    days = pd.to_datetime(TABLE["ds"])
    first = TABLE["shop_id"] == STORES[0]
    table = TABLE.copy()
    table.loc[first & days.between(days.iloc[20], days.iloc[45]), "gmv"] *= 0.67
    return table[~first | (days >= days.iloc[2])]


@pytest.mark.parametrize("table", [TABLE, shifted_first()], ids=["as fitted", "shifted"])
def test_company_does_not_matter_to_the_regression(fitted: CausalMMM, table: pd.DataFrame) -> None:
    """Draws belong to a store's name, and level shifts of one store move no other's answers."""
    everyone = answers(fitted, table)
    for store in STORES:
        alone = answers(fitted, table[table["shop_id"] == store])
        # Sums over a batch are taken in another order than those of one store.
        assert_same(of_store(everyone, store), of_store(alone, store), rtol=1e-9)
    two = answers(fitted, table[table["shop_id"] != STORES[0]])
    assert_same(of_store(everyone, STORES[1]), of_store(two, STORES[1]), rtol=1e-9)


def test_a_step_down_is_known_by_its_date() -> None:
    """All stores lose a third of their sales in week 30; a later table begins at week 10."""
    days = pd.to_datetime(TABLE["ds"])
    table = TABLE.copy()
    table.loc[days >= days.iloc[30], "gmv"] *= 0.67
    model = regression(table)
    late = read(table[days >= days.iloc[10]])
    observed = observed_stores(model._windows(late.data), late, np.arange(len(STORES)))
    shifts = know(model.model_, observed, len(late.nodes) - 1).shifts
    assert shifts.scale.shape[1] == 1, "no store has to find a shift of its own"
    assert (shifts.end == observed.position[:, [20]]).all(), "the step is in week 30"


def with_twin() -> pd.DataFrame:
    return pd.concat([TABLE, TABLE[TABLE["shop_id"] == STORES[1]].assign(shop_id="twin")])


def test_twins_agree_in_the_amortised_model(trained: CausalMMM) -> None:
    both = answers(trained, with_twin())
    assert_same(of_store(both, STORES[1]), of_store(both, "twin"), rtol=1e-5)


def test_twins_agree_within_the_error_of_their_draws(fitted: CausalMMM) -> None:
    """Stores have draws of their own, as sums over stores need; all but draws are the same."""
    both = answers(fitted, with_twin())
    one, twin = of_store(both, STORES[1]), of_store(both, "twin")
    assert (one["graphs"]["probability"] == twin["graphs"]["probability"]).all()
    before, after = one["contributions"], twin["contributions"]
    sd = (before["total_upper"] - before["total_lower"]) / 3.29  # of a normal 90 % interval
    error = sd * np.sqrt(2 / fitted.model_.config.draws)
    assert ((before["total"] - after["total"]).abs() <= 4 * error).all()
    assert (before["total"] != after["total"]).any()


def in_currency(unit: float) -> pd.DataFrame:
    return TABLE.assign(**{name: TABLE[name] * unit for name in MONEY})


def test_currency_does_not_matter(fitted: CausalMMM) -> None:
    scaled = regression(in_currency(EXACT))
    first, second = fitted.contributions(), scaled.contributions()
    numbers = first.select_dtypes("floating").columns
    np.testing.assert_allclose(second[numbers], EXACT * first[numbers], rtol=1e-6)
    assert (scaled.graphs()["probability"] == fitted.graphs()["probability"]).all()
    assert_found_again(fitted, regression(in_currency(1000.0)), unit=1000.0)


@pytest.mark.parametrize(("unit", "share"), [(EXACT, 1e-6), (1000.0, 1e-3)])
def test_currency_does_not_matter_to_the_amortised_model(
    trained: CausalMMM, unit: float, share: float
) -> None:
    """Adam takes whole steps along gradients that are nothing but rounding: effects of pairs that
    the data says nothing about move within their intervals."""
    scaled = amortised(in_currency(unit))
    first, second = trained.graphs(), scaled.graphs()
    np.testing.assert_allclose(second["probability"], first["probability"], atol=1e-4)
    units = np.where(first["target"].isin(MONEY), unit, 1.0)
    difference = (second["effect"] / units - first["effect"]).abs()
    assert (difference <= share * (first["upper"] - first["lower"])).all()


@pytest.mark.parametrize("control", ["control0", "control1"])
def test_a_constant_added_to_a_control_does_not_matter(
    fitted: CausalMMM, trained: CausalMMM, control: str
) -> None:
    shifted = TABLE.assign(**{control: TABLE[control] + 7})
    assert_found_again(fitted, regression(shifted))
    assert_same(answers(trained), answers(amortised(shifted)), rtol=1e-4)


def later(days: int) -> pd.DataFrame:
    return TABLE.assign(ds=pd.to_datetime(TABLE["ds"]) + pd.Timedelta(days=days))


def test_twenty_eight_years_later_everything_is_the_same(fitted: CausalMMM) -> None:
    """Weekdays and leap years return together after 28 years: 1,461 weeks."""
    before, after = answers(fitted), answers(regression(later(28 * 365 + 7)))
    after["forecasts"]["date"] -= pd.Timedelta(weeks=1461)
    assert_same(before, after)


def test_fifty_two_weeks_move_the_season_by_a_day_only(fitted: CausalMMM) -> None:
    """364 days are no year: the season's place moves by 1.24 days, and with it its terms."""
    model = regression(later(364))
    assert_found_again(fitted, model)
    assert moved(fitted, model)[0] > 0, "the season is part of the model"
