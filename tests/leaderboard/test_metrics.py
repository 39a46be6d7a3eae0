"""Every figure of a day against a value worked out by hand."""

from __future__ import annotations

from dataclasses import fields

import numpy as np
import pytest

from prosumer_gym.actions import DayActions
from prosumer_gym.community import Community, Fleet, TradeGraph
from prosumer_gym.errors import UsageError
from prosumer_gym.exogenous import Exogenous
from prosumer_gym.feeder import Feeder
from prosumer_gym.leaderboard import metrics as m
from prosumer_gym.market import COST_TERMS
from prosumer_gym.rollout import rollout


def a(*values: object) -> np.ndarray:
    return np.array(values, dtype=np.float64)


def test_cost_is_the_signed_sum_of_all_bookings() -> None:
    terms = np.zeros((2, 2, 3, 2))  # [D,H,T,N]
    terms[0] = [[[1, 2], [-10, 0], [0, 0.5]], [[0, 0], [0, 0], [3, -1]]]
    terms[1, 0, 0, 0] = -7.0
    np.testing.assert_allclose(m.cost_ct(terms), [-4.5, -7.0])


def test_export_revenue_of_one_hour_pays_for_another() -> None:
    """A cost clipped at zero in each hour would make the revenue vanish."""
    terms = a(-5.0, 3.0).reshape(1, 2, 1, 1)
    assert m.cost_ct(terms)[0] == -2.0


def test_gross_demand_is_load_and_reference_shiftable_load() -> None:
    load = a([[1, 2], [3, 4]], [[0, 0], [0, 2]])
    reference = a([[1, 0], [0, 1]], [[2, 2], [2, 2]])
    np.testing.assert_allclose(m.gross_demand_kw(load, reference), [(4 + 8) / 2, (4 + 6) / 2])


EXCHANGE = a([2, -6, 4, 0], [-1, -2, -3, -4], [5, 5, 5, 5], [0.02, -9, 0, 0])


def test_peak_is_the_largest_import_and_never_negative() -> None:
    np.testing.assert_allclose(m.peak_kw(EXCHANGE), [4, 0, 5, 0.02])


def test_peak_ratio_divides_by_gross_demand() -> None:
    np.testing.assert_allclose(m.peak_ratio(EXCHANGE, a(8, 8, 4, 1)), [0.5, 0, 1.25, 0.02])


def test_par_is_largest_over_mean_import_and_undefined_where_there_is_hardly_any() -> None:
    """Means of the imports: 6/4, 0, 5 and .005 kW, the last one under 1 % of 1 kW."""
    np.testing.assert_allclose(m.par(EXCHANGE, a(8, 8, 4, 1)), [4 / 1.5, np.nan, 1, np.nan])
    np.testing.assert_allclose(m.par(EXCHANGE[3:], a(0.5)), [4.0])  # exactly 1 %


def test_par_is_at_least_one() -> None:
    exchange = np.random.default_rng(0).normal(size=(200, 24))
    assert np.nanmin(m.par(exchange, np.ones(200))) >= 1.0


def test_voltage_excess_counts_both_sides_and_nothing_inside() -> None:
    v = a([[1.0, 0.94, 1.07], [1.0, 0.95, 1.05]])
    excess = m.voltage_excess_pu(v, np.array([[True, True]]), 0.95, 1.05)
    np.testing.assert_allclose(excess, [[[0, 0.01, 0.02], [0, 0, 0]]], atol=1e-15)
    np.testing.assert_allclose(m.voltage_pu_h(excess, 0.5), [0.015])
    np.testing.assert_allclose(m.violated_share(excess), [2 / 6])
    np.testing.assert_allclose(m.worst_excess_pu(excess), [0.02])


def test_a_collapsed_power_flow_counts_as_a_dead_feeder() -> None:
    v = a([[1.0, 1.0, 1.0]])
    excess = m.voltage_excess_pu(v, np.array([[False]]), 0.95, 1.05)
    np.testing.assert_allclose(excess, [[[0, 0.95, 0.95]]])


def test_rounding_beyond_a_limit_is_no_violation() -> None:
    excess = m.voltage_excess_pu(a([[0.95 - 1e-12, 0.95 - 1e-6]]), np.array([[True]]), 0.95, 1.05)
    assert m.violated_share(excess)[0] == 0.5


def test_energy_is_power_times_time() -> None:
    np.testing.assert_allclose(m.energy_kwh(a([[1, 2], [3, 4]], [[0, 0], [0, 1]]), 0.25), [2.5, 0.25])
    np.testing.assert_allclose(m.energy_kwh(a([1, 2], [3, 4]), 2.0), [6, 14])


def test_sales_are_added_over_edges_and_never_netted() -> None:
    """Edges 0-1, 0-2, 1-2; first hour: 0 buys 3 from 1 and sells 2 to 2, and 2 sells 1 to 1."""
    trade = a([[3, -2, 1], [0, 0, -4]])
    sold = m.sold_kw(trade, np.array([0, 0, 1]), np.array([1, 2, 2]), 3)
    np.testing.assert_allclose(sold, [[[2, 3, 1], [0, 4, 0]]])


def test_traded_energy_beyond_the_own_surplus_is_passed_on() -> None:
    sold = a([[2, 3, 1]])
    net_import = a([[1, -5, -0.25]])
    own = m.p2p_own_kw(sold, net_import)
    np.testing.assert_allclose(own, [[[0, 3, 0.25]]])
    np.testing.assert_allclose(sold - own, [[[2, 0, 0.75]]])


def test_shifted_energy_counts_each_kilowatt_hour_once() -> None:
    reference = a([[2, 1], [2, 1], [2, 1]])
    actual = a([[0, 1], [5, 0], [1, 2]])
    np.testing.assert_allclose(m.shifted_kwh(actual, reference, 0.5), [0.5 * (2 + 3 + 1 + 0 + 1 + 1) * 0.5])


def test_overloads_count_imports_and_exports_beyond_the_rating() -> None:
    beyond = m.beyond_connection_kw(a([[12, -3], [-11, 5]]), a(10, 4))
    np.testing.assert_allclose(beyond, [[[2, 0], [1, 1]]])


def test_self_consumption_and_self_sufficiency_are_ratios_of_sums() -> None:
    assert m.self_consumption(a(100, 0), a(10, 0), a(30, 0)) == pytest.approx(0.6)
    assert np.isnan(m.self_consumption(a(0), a(0), a(0)))
    assert m.self_sufficiency(a(50, 150), a(50, 50)) == pytest.approx(0.5)
    assert m.self_sufficiency(a(10), a(12)) == pytest.approx(-0.2)
    assert np.isnan(m.self_sufficiency(a(0), a(0)))


def test_jain_index() -> None:
    assert m.jain_index(a(5, 5, 5, 5)) == pytest.approx(1.0)
    assert m.jain_index(a(8, 0, 0, 0)) == pytest.approx(0.25)
    assert m.jain_index(a(1, 3)) == pytest.approx(16 / 20)
    assert m.jain_index(a(1, 3, -7)) == pytest.approx(16 / 30)  # who loses saves nothing
    assert np.isnan(m.jain_index(a(-1, 0)))


# all of them together, on two prosumers at one line ---------------------------------------------------------------


def two_prosumers(hours: int = 2) -> Community:
    feeder = Feeder.from_arrays(
        from_bus=[0, 1], to_bus=[1, 2], r_ohm=[0.5, 0.5], x_ohm=[0.5, 0.5], p_kw=[0, 0, 0], q_kvar=[0, 0, 0],
        base_kv=12.66,
    )  # fmt: skip
    graph = TradeGraph(np.array([0]), np.array([1]), np.array([5.0]), np.array([0.2]))
    return Community("two", feeder, Fleet.identical([1, 2]), graph, hours_per_day=hours)


def two_days(hours: int = 2) -> Exogenous:
    load = np.zeros((2, hours, 2))
    load[0, 0] = [10, 20]
    load[0, 1] = [30, 4]
    load[1] = 6.0
    pv = np.zeros((2, hours, 2))
    pv[0, 1] = [0, 12]
    return Exogenous(
        load_kw=load,
        pv_kw=pv,
        shiftable_ref_kw=np.full((2, hours, 2), 1.0),
        price_da_ct_per_kwh=np.full((2, hours), 10.0),
        price_rt_ct_per_kwh=np.full((2, hours), 10.0),
        passive_pu=np.zeros((2, hours)),
    )


def wanted() -> DayActions:
    """Day 0: prosumer 0 charges 2 kW in hour 0, sells nothing; in hour 1 prosumer 1 offers 3 kW, 0 takes it."""
    battery = np.zeros((2, 2, 2))
    battery[0, 0, 0] = 2.0
    offer = np.zeros((2, 2, 2))
    offer[0, 1] = [3.0, -3.0]
    curtail = np.zeros((2, 2, 2))
    curtail[0, 1, 1] = 1.0
    return DayActions(
        position_kw=np.zeros((2, 2, 2)),
        battery_kw=battery,
        shiftable_kw=np.ones((2, 2, 2)),
        curtail_kw=curtail,
        offers=offer,
    )


@pytest.fixture(scope="module")
def played() -> m.DayMetrics:
    community, exogenous = two_prosumers(), two_days()
    trace = rollout(community, exogenous, [0, 1], wanted())
    return m.day_metrics(community, exogenous, np.array([0, 1]), trace)


def test_figures_of_a_day_with_half_days_of_twelve_hours(played: m.DayMetrics) -> None:
    """dt is 12 h. Net imports of day 0: (13, 21), (31, 4 + 1 - (12 - 1) = -6); of day 1: (7, 7) twice."""
    dt = 12.0
    np.testing.assert_allclose(played.peak_kw, [34, 14])
    np.testing.assert_allclose(played.gross_demand_kw, [(32 + 36) / 2, 14])
    np.testing.assert_allclose(played.peak_ratio, [1.0, 1.0])
    np.testing.assert_allclose(played.par, [34 / ((34 + 25) / 2), 1.0])
    np.testing.assert_allclose(played.demand_kwh, [68 * dt, 28 * dt])
    np.testing.assert_allclose(played.import_kwh, [59 * dt, 28 * dt])
    np.testing.assert_allclose(played.export_kwh, [0, 0])
    np.testing.assert_allclose(played.pv_kwh, [12 * dt, 0])
    np.testing.assert_allclose(played.curtailed_kwh, [1 * dt, 0])
    np.testing.assert_allclose(played.battery_kwh, [2 * dt, 0])
    np.testing.assert_allclose(played.shifted_kwh, [0, 0], atol=1e-12)
    np.testing.assert_allclose(played.p2p_kwh, [3 * dt, 0])
    np.testing.assert_allclose(played.p2p_relayed_kwh, [0, 0], atol=1e-12)
    np.testing.assert_allclose(played.overload_events, [0, 0])
    np.testing.assert_allclose(played.non_converged, [0, 0])
    assert np.all(played.losses_kwh > 0.0)
    assert np.all(played.par_feeder >= 1.0)


@pytest.mark.parametrize("mechanism", ["mid-market-rate", "supply-demand-ratio"])
def test_what_is_traded_in_a_pool_counts_too(played: m.DayMetrics, mechanism: str) -> None:
    """The offers of the one edge's two ends are the two prosumers' orders."""
    community, exogenous = two_prosumers().replace(mechanism=mechanism), two_days()
    trace = rollout(community, exogenous, [0, 1], wanted())
    pool = m.day_metrics(community, exogenous, np.array([0, 1]), trace)
    np.testing.assert_allclose(pool.p2p_kwh, played.p2p_kwh)
    np.testing.assert_allclose(pool.p2p_relayed_kwh, [0, 0], atol=1e-12)


def test_cost_terms_prosumers_and_total_agree(played: m.DayMetrics) -> None:
    np.testing.assert_allclose(played.cost_terms_ct.sum(axis=1), played.cost_ct)
    np.testing.assert_allclose(played.cost_per_prosumer_ct.sum(axis=1), played.cost_ct)


def test_cost_terms_of_a_day_by_hand(played: m.DayMetrics) -> None:
    """Real-time purchase at max(10, 10) + 1 = 11, sale at min(10 - 4, 4) - .5 = 3.5 ct/kWh; P2P at 7 ct/kWh, fee .2.

    Hour 0: 13 and 21 kW bought; hour 1: prosumer 0 buys 31 - 3, prosumer 1 sells 6 - 3; day 1: 7 kW each, always.
    """
    terms = dict(zip(COST_TERMS, played.cost_terms_ct.T, strict=True))
    np.testing.assert_allclose(terms["day_ahead"], [0, 0])
    np.testing.assert_allclose(terms["real_time"], [12 * (11 * (13 + 21 + 28) - 3.5 * 3), 12 * 11 * 28])
    np.testing.assert_allclose(terms["p2p"], [0, 0], atol=1e-9)
    np.testing.assert_allclose(terms["p2p_fee"], [12 * 3 * 0.2, 0])
    np.testing.assert_allclose(terms["demand_charge"], [20 * (31 + 21), 20 * 14])
    np.testing.assert_allclose(terms["battery_wear"], [12 * (0.02 * 4 + 2), 0])
    np.testing.assert_allclose(terms["discomfort"], [0, 0], atol=1e-12)
    np.testing.assert_allclose(terms["terminal_soc"], [-(12 * 2 * 0.9) * 4 * 0.9, 0])  # left over at 4 ct/kWh x .9
    np.testing.assert_allclose(
        played.cost_per_prosumer_ct[0],
        [
            12 * (11 * (13 + 28) + 3 * 7 + 3 * 0.1) + 20 * 31 + 12 * 2.08 - 21.6 * 3.6,
            12 * (11 * 21 - 3.5 * 3 - 3 * 7 + 3 * 0.1) + 20 * 21,
        ],
    )


def test_a_day_without_any_load_is_named() -> None:
    exogenous = two_days()
    empty = Exogenous(
        **{
            f.name: np.zeros_like(getattr(exogenous, f.name))
            if f.name != "price_da_ct_per_kwh"
            else exogenous.price_da_ct_per_kwh
            for f in fields(Exogenous)
        }
    )
    actions = wanted()
    trace = rollout(two_prosumers(), empty, [0, 1], actions)
    with pytest.raises(UsageError, match=r"row 0.*no prosumer has any load"):
        m.day_metrics(two_prosumers(), empty, np.array([0, 1]), trace)


def test_p2p_cash_that_appears_from_nowhere_is_a_bug() -> None:
    community, exogenous = two_prosumers(), two_days()
    trace = rollout(community, exogenous, [0, 1], wanted())
    trace.cost_ct[0, 1, COST_TERMS.index("p2p"), 0] += 0.01
    with pytest.raises(RuntimeError, match="do not sum to zero"):
        m.day_metrics(community, exogenous, np.array([0, 1]), trace)


def test_every_figure_has_one_value_a_day(played: m.DayMetrics) -> None:
    for item in fields(m.DayMetrics):
        assert len(getattr(played, item.name)) == 2
    assert len(played) == 2
