"""What foretells damage, of runs whose damage is a figure that was planted; and which files are taken for a run's damage."""

import json

import numpy as np
import pytest
from damage_factory import SHARES, STEPS, put
from study_factory import trial

from harness.plan.study import Study
from harness.report.study.damaged import look_up
from harness.report.study.folder import publish, read_folder, write_study
from harness.report.study.foretelling import EXCHANGED, REMOVED, ROUTERS, SHUFFLED, foretold, pairs_of
from harness.report.study.foretelling_table import foretelling_tables
from harness.report.study.looks import why_not
from harness.report.study.trials import read_trial

CASES = {"bf16": "", "nvfp4": "precision.format=nvfp4"}


def study(figure="damage"):
    return Study("example", "an example", "What foretells damage?", "tiny-moe-16e", figure, dict(CASES))


def noise(*key):
    return float(np.random.default_rng(key).random())


NAMES = ("sets", "router", "inputs", "load", "evenness", "weights", "model", "steps", "said", "experts")
NUMBER = {name: at for at, name in enumerate(NAMES)}
WHICH = {"coldest": 0, "random": 1, "busiest": 2}


def planted(seed):
    """Figures drawn by name and place; `steps` and `experts` are what they are."""

    def figure(name, layer, step=0, share=0.0, which="coldest"):
        if name == "steps":
            return 384 - step
        if name == "experts":
            return share
        return noise(seed, NUMBER[name], step, int(100 * share), WHICH[which], 99 if layer is None else layer)

    return figure


def made(home, case, seed, cost, **words):
    one = trial(home, case, seed)
    put(one.folder, planted(seed), cost, **words)
    return read_trial(case, seed, one.folder)


def by_sets_and_load(foretold, **at):
    """The damage of a router grows with its sets that moved, that of experts with their load."""
    if "step" in at:
        return foretold["sets"] ** 3
    return np.exp(foretold["load"])


@pytest.fixture(scope="module")
def trials(tmp_path_factory):
    home = tmp_path_factory.mktemp("damage")
    return [made(home, case, seed, by_sets_and_load) for case in CASES for seed in (1, 2, 3)]


def by_case(trials):
    return {case: [one for one in trials if one.case == case] for case in CASES}


def test_pairs_are_of_one_layer_each_and_the_untrained_router_is_none(trials):
    pairs = pairs_of(trials[0], ROUTERS)
    assert len(pairs.cost) == (len(STEPS) - 1) * 4 and set(pairs.block) == set(STEPS) - {0}
    assert pairs.names[0] == "sets" and pairs.group == tuple(map(float, pairs.block))
    pairs = pairs_of(trials[0], REMOVED)
    assert len(pairs.cost) == len(SHARES) * 3 * 4 and set(pairs.block) == {0, 1, 2, 3} and set(pairs.group) == set(SHARES)


def test_a_planted_cause_is_found_whole_and_nothing_else_is(trials):
    found = foretold(by_case(trials), ROUTERS)
    assert found.over["sets"].value == pytest.approx(1) and found.over["sets"].low > 0.99
    assert found.within["sets"].low > 0.9
    for name in ("load", "weights", SHUFFLED):
        assert abs(found.over[name].value) < 0.35 and not found.over[name].low > 0.3
        assert found.first_minus[name].resolved and found.first_minus[name].value > 0.6
    assert found.over[SHUFFLED].low < 0 < found.over[SHUFFLED].high
    found = foretold(by_case(trials), EXCHANGED)
    assert found.over["load"].value == pytest.approx(1) and found.first_minus["load"].value < -0.6
    assert found.first_minus["load"].resolved


def test_what_grows_with_age_alone_is_nothing_at_one_age(tmp_path):
    def aging(foretold, **at):
        return foretold.get("steps", 0.0)

    runs = {case: [made(tmp_path, case, seed, aging) for seed in (1, 2, 3)] for case in CASES}
    found = foretold(runs, ROUTERS)
    assert found.over["steps"].value == pytest.approx(1) and found.within["steps"].value == 0
    assert abs(found.within["sets"].value) < 1e-9, "costs of one age are the same"


def test_correlations_are_those_of_scipy_averaged_over_runs_then_cases(trials):
    from scipy.stats import spearmanr

    values = []
    for case in CASES:
        runs = [pairs_of(one, ROUTERS) for one in trials if one.case == case]
        values.append(np.mean([spearmanr(run.figures[run.names.index("load")], run.cost)[0] for run in runs]))
    found = foretold(by_case(trials), ROUTERS)
    assert found.over["load"].value == pytest.approx(np.mean(values))
    assert found.cases["load"]["bf16"].value == pytest.approx(values[0])


def test_the_same_runs_give_the_same_interval_and_more_of_them_a_narrower_one(trials):
    one, again = (foretold(by_case(trials), ROUTERS).over["load"] for _ in range(2))
    assert one == again
    fewer = foretold({"bf16": trials[:1]}, ROUTERS).over["load"]
    assert fewer.high - fewer.low > one.high - one.low


def test_the_table_says_which_foretells_less_and_what_was_asked(trials):
    said = "\n".join(foretelling_tables(study(), trials))
    rows = [line.split(" | ") for line in said.splitlines() if line.startswith("| an earlier router")]
    assert [row[1] for row in rows] == ["sets", "router", "inputs", "load", "evenness", "weights", "model", "steps", "shuffled"]
    verdict = {row[1]: row[-1].strip(" |") for row in rows}
    assert verdict["load"] == "foretells less over all pairs and at one age" and verdict["sets"] == verdict["shuffled"] == ""
    rows = [line.split(" | ") for line in said.splitlines() if line.startswith("| experts removed")]
    assert {row[1]: row[-1].strip(" |") for row in rows}["load"].startswith("foretells more over all pairs")
    assert "an earlier router: 96 pairs of 6 runs" in said.lower()
    assert "a verdict takes 3 seeds" in "\n".join(foretelling_tables(study(), [trials[0], trials[3]]))
    assert foretelling_tables(study("load"), trials) == []


def test_a_study_of_damage_is_published_with_its_evidence_and_drawn_from_it(trials, tmp_path):
    verdicts = {(one.case, one.seed): [] for one in trials}
    table, figure, numbers = publish(study(), trials, tmp_path / "out", verdicts)
    assert (tmp_path / "out" / "bf16" / "1" / "damage.json").exists()
    again, there = read_folder(tmp_path / "out")
    drawn = write_study(again, there, tmp_path / "again", verdicts)
    assert [path.read_bytes() for path in drawn] == [path.read_bytes() for path in (table, figure, numbers)]
    one = json.loads(numbers.read_text())["trials"][0]["damage"]
    assert len(one["transplants"]) == len(STEPS) * 4 and {row["layer"] for row in one["interferences"]} == {None}


@pytest.mark.parametrize(
    "change, why",
    [({"plan_hash": "ab" * 32}, "is of plan abababab"), ({"seed": 9}, "is of seed 9, the run has 1"),
     ({"content_sha256": "ab" * 32}, "is of record abababab"), ({"weights_sha256": "ab" * 32}, "is of weights abababab")],
)  # fmt: skip
def test_damage_of_another_run_is_not_taken(tmp_path, change, why):
    from harness.record.damaged import write_damage
    from harness.record.sealed import SEAL

    one = trial(tmp_path, "bf16")
    assert look_up(one) == (None, "it has no damage.json")
    path = put(one.folder)
    assert look_up(one)[1] == ""
    content = json.loads(path.read_text())
    content["run"] |= change
    path.write_text(json.dumps(content))
    assert "was changed after it was written" in look_up(one)[1]
    write_damage(path, {key: value for key, value in content.items() if key != SEAL})
    assert why in look_up(one)[1] == why_not("damage", one)


def test_a_dense_run_has_no_router_to_interfere_with(tmp_path):
    one = trial(tmp_path, "dense", experts=16)
    one.plan["model"]["num_experts"] = 0
    assert why_not("damage", one) == "" and one.damage is None
