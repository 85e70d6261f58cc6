"""The bounds of ranking: nobody sets them for himself, and everybody may be stricter."""

import micro
import pytest
from micro import no_figures_fixture  # noqa: F401

import harness.train.health
from harness.errors import UserError
from harness.plan.bounds import RANKING, looser
from harness.plan.compose import compose
from harness.plan.schema import BOUNDS, Health
from harness.record.record import unranked_reasons
from harness.record.schema import Provenance
from harness.train.health import HealthStop, Monitor, RankingWatch

LOOSER = {
    "health.collapse_load": "1.0",
    "health.dead_share": "1.0",
    "health.window_steps": "1000000",
    "health.divergence_factor": "1e+300",
    "run.log_every_steps": "384",
}
STRICTER = {
    "health.collapse_load": "0.5",
    "health.dead_share": "0",
    "health.window_steps": "8",
    "health.divergence_factor": "1.1",
    "run.log_every_steps": "4",
}
LANE = "lane=tiny-moe-16e"
WINDOW = RANKING.window_steps
EVEN, DOMINATED, ONE_DEAD = [[2, 2, 2, 2]], [[4, 2, 1, 1]], [[3, 3, 2, 0]]


def reasons(*words):
    return unranked_reasons(compose([LANE, *words]).plan, {}, Provenance(commit="c0", dirty=False), 0, None, (0, 0.0))


def test_every_way_to_loosen_a_bound_is_tried_here():
    assert LOOSER.keys() == STRICTER.keys() == BOUNDS.keys()


@pytest.mark.parametrize("key", BOUNDS)
def test_a_looser_bound_is_refused_with_key_value_bound_and_remedy(key):
    section, name = key.split(".")
    for word in (f"{key}={LOOSER[key]}", f"++{key}={LOOSER[key]}", f"{section}={{{name}: {LOOSER[key]}}}"):
        with pytest.raises(UserError) as caught:
            compose([LANE, word])
        said = str(caught.value)
        assert f"{key}={LOOSER[key]}" in said and f"{BOUNDS[key]} or less" in said and "unranked=true" in said


@pytest.mark.parametrize("key", BOUNDS)
def test_with_unranked_a_looser_bound_runs_and_is_the_reason_against_its_rank(key):
    said = f"{key}={LOOSER[key]} where ranking allows {BOUNDS[key]} at most"
    assert reasons("unranked=true", f"{key}={LOOSER[key]}") == [said]


@pytest.mark.parametrize("key", BOUNDS)
def test_a_stricter_bound_and_the_bound_itself_stay_free_and_ranked(key):
    assert reasons(f"{key}={STRICTER[key]}") == [] == reasons(f"{key}={BOUNDS[key]}")


def test_a_stored_plan_from_before_a_key_is_within_its_bound():
    assert looser({"health": {"collapse_load": 1.0}}) == {"health.collapse_load": (0.95, 1.0)}
    assert looser({"lane": {"name": "tiny-dense"}}) == {}


def watched(plan: Health, *windows: list[list[int]], losses: float = 2.0) -> RankingWatch:
    """What ranking makes of windows of counts by layer (one layer of four experts, top-2)."""
    stops = Monitor(plan, ["p"], [0], 2, "")
    watch = RankingWatch(stops)
    for at, counts in enumerate(windows):
        for step in range(at * WINDOW + 1, (at + 1) * WINDOW + 1):
            stops.see(step, losses, [1.0], counts)
            watch.see(step, losses, [1.0], counts)
    return watch


LOOSE = Health(window_steps=1_000_000, collapse_load=1, dead_share=1, divergence_factor=1e300)


@pytest.mark.parametrize("plan", [LOOSE, Health(collapse_load=1, dead_share=1), Health(window_steps=1000)])
def test_ranking_judges_the_last_window_by_its_own_length_and_load_whatever_the_plan_says(plan):
    watch = watched(plan, EVEN, EVEN, DOMINATED)
    assert watch.monitor.last_dominance == 1.0 and watch.monitor.last_dead == 0
    assert list(watch.breaches.values()) == [f"step {3 * WINDOW}, layer 0: expert 0 is in 100% of all top-2 sets"]
    assert watched(plan, EVEN, ONE_DEAD).monitor.last_dead == 1


def test_a_collapse_that_passed_is_remembered_and_named_once():
    watch = watched(LOOSE, EVEN, DOMINATED, DOMINATED, EVEN)
    assert watch.monitor.last_dominance == 0.5
    assert list(watch.breaches.values()) == [f"step {2 * WINDOW}, layer 0: expert 0 is in 100% of all top-2 sets"]


def test_a_divergence_that_the_plan_lets_pass_is_remembered():
    stops = Monitor(LOOSE, ["p"], [], 0, "")
    watch = RankingWatch(stops)
    for step in range(1, 2 * WINDOW + 1):
        watch.see(step, 1.0 if step <= WINDOW else 1.6, [1.0], [])
    assert watch.breaches.keys() == {"divergence"}


def test_a_stricter_plan_is_not_judged_by_its_own_short_windows():
    """Over 8 steps an expert may get nothing and still be alive over the 64 that ranking counts."""
    strict = Monitor(Health(window_steps=8, dead_share=0.5), ["p"], [0], 2, "")
    watch = RankingWatch(strict)
    for step in range(1, WINDOW + 1):
        counts = ONE_DEAD if step > WINDOW - 8 else EVEN
        strict.see(step, 2.0, [1.0], counts)
        watch.see(step, 2.0, [1.0], counts)
    assert strict.last_dead == 1 and watch.monitor.last_dead == 0 and not watch.breaches


def test_a_plan_at_the_bounds_is_judged_once_by_the_monitor_that_stops_it():
    stops = Monitor(Health(), ["p"], [0], 2, "")
    watch = RankingWatch(stops)
    assert watch.monitor is stops and watch.state() == {}
    with pytest.raises(HealthStop):
        for step in range(1, WINDOW + 1):
            stops.see(step, 2.0, [1.0], DOMINATED)


def test_ranking_goes_on_from_a_checkpoint_with_what_it_has_seen():
    before = watched(LOOSE, DOMINATED)
    after = RankingWatch(Monitor(LOOSE, ["p"], [0], 2, ""))
    after.restore(before.state())
    assert after.state() == before.state() and after.breaches


def test_a_run_records_what_the_bounds_of_ranking_would_have_stopped(tmp_path, monkeypatch, no_figures):
    """A bias that alone decides where tokens go collapses within four steps, and the plan lets it."""
    monkeypatch.setattr(harness.train.health, "RANKING", Health(window_steps=4, collapse_load=0.3, dead_share=1))
    found = micro.record(micro.run(tmp_path, "balance.rate=1e9", "budget.tokens=2048")).unranked_reasons
    assert any(reason.startswith("step 4, layer ") and "of all top-2 sets" in reason for reason in found)
