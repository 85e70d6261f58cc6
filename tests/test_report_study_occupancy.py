"""How many experts are used at several numbers of them: powers of E of planted loads, what the coldest half costs."""

import json

import numpy as np
import pytest
from damage_factory import put
from report_factory import set_val, sign
from study_factory import of_text, trial

from harness.plan.study import Study
from harness.report.study.folder import write_study
from harness.report.study.occupancy import arm_of, cost, cv, effective, in_words, of_arms, power
from harness.report.study.occupancy_table import occupancy_tables
from harness.report.study.trials import read_trial

SIZES, SEEDS, K = (16, 64, 256), (1, 2, 3), 4
ARMS = ("few", "share", "all")
CASES = {"dense": ""} | {f"{arm}-{experts}": "" for arm in ARMS for experts in SIZES}
COSTS = {("removed", "coldest"): 0.05, ("removed", "random"): 0.7, ("exchanged", "coldest"): 0.1, ("exchanged", "busiest"): 1.0}


def study(figure="occupancy"):
    return Study("example", "an example", "Who is used?", "tiny-moe-16e", figure, dict(CASES))


def counts(arm, experts, seed):
    """Of one layer: 8 experts whatever E is; a quarter of them; all."""
    used = {"few": 8, "share": experts // 4, "all": experts}[arm]
    return [1000 * (10 + seed)] * used + [0] * (experts - used)


def costing(foretold, share=0.0, which="", what="", layer=None, step=None):
    return np.log(2) * COSTS.get((what, which), 0.5) * (2 if share == 0.75 else 1) + 0.001 * np.sin(layer or 0)


def made(home, case, seed):
    arm, _, experts = case.rpartition("-")
    one = trial(home, case, seed, experts=int(experts), top_k=K) if arm else of_text(home, case, seed)
    if arm:
        rows = [json.loads(line) for line in (one.folder / "metrics.jsonl").read_text().splitlines()]
        rows[-1]["counts"] = [counts(arm, int(experts), seed)] * 4
        (one.folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    set_val(one.folder, 2.0 + 0.01 * seed if not arm else 1.9 + 0.01 * seed)
    sign(one.folder)
    if arm:
        put(one.folder, cost=lambda **at: costing(**at) + 0.001 * seed, transplants=False)
    return read_trial(case, seed, one.folder)


@pytest.fixture(scope="module")
def trials(tmp_path_factory):
    home = tmp_path_factory.mktemp("occupancy")
    return [made(home, case, seed) for case in CASES for seed in SEEDS]


def test_effective_experts_are_those_of_equal_loads(trials):
    found = {(one.case, one.seed): (effective(one), cv(one)) for one in trials if one.experts}
    assert found["few-64", 1] == (pytest.approx(8), pytest.approx(7**0.5))
    assert found["share-256", 2] == (pytest.approx(64), pytest.approx(3**0.5)) and found["all-16", 3] == (pytest.approx(16), 0)


def test_the_power_of_e_is_found_and_said(trials):
    arms = of_arms(trials)
    assert (
        list(arms) == list(ARMS) and list(arms["few"]) == list(SIZES) and arm_of("few-64") == "few" and arm_of("few") == "few"
    )
    found = {arm: power(sizes, effective) for arm, sizes in arms.items()}
    assert [found[arm].mean for arm in ARMS] == pytest.approx([0, 1, 1], abs=1e-9) and found["few"].n == 3
    assert power(arms["few"], cv).mean == pytest.approx(0.65, abs=0.05), "half a power, where E is far above N_eff"
    assert power(arms["all"], cv) is None, "no logarithm of an even load's 0"
    assert power({16: arms["few"][16], 64: arms["few"][64]}, effective) is None
    assert in_words(power({e: some[:2] for e, some in arms["few"].items()}, effective)) == "n = 2: a verdict takes 3 seeds"


@pytest.mark.parametrize(
    "slopes, said",
    [((-0.1, 0.1, 0.0), "arithmetic alone"), ((0.9, 1.1, 1.0), "the same share of experts"), ((0.5, 0.51, 0.52), "a smaller"),
     ((1.5, 1.51, 1.52), "a larger share"), ((-0.5, -0.51, -0.52), "fewer experts, the more")],
)  # fmt: skip
def test_a_power_in_words(slopes, said):
    from harness.report.statistics import Sample

    assert said in in_words(Sample.of(slopes))


def test_what_half_of_the_experts_costs_is_in_bits_and_of_all_layers_at_once(trials):
    one = next(one for one in trials if one.case == "few-64" and one.seed == 1)
    assert cost(one, "removed", "random") == pytest.approx(0.7 + 0.001 / np.log(2))
    assert cost(one, "removed", "random", 0.75) == pytest.approx(1.4 + 0.001 / np.log(2)) and cost(one, "removed", "x") is None


def test_the_tables_set_a_case_against_dense_and_a_half_against_a_random_half(trials):
    lines = occupancy_tables(study(), trials)
    row = next(line.split(" | ") for line in lines if line.startswith("| few-64"))
    assert row[1:5] == ["64, top-4", "3", "8.0 ± 0.0", "2.65 ± 0.00"] and row[5] == "87.5%" and row[6].startswith("-4.9")
    assert row[8].startswith("+0.70") and row[-1].strip(" |") == "is needed, less than a random half"
    row = next(line.split(" | ") for line in lines if line.startswith("| few |"))
    assert row[1:3] == ["16, 64, 256", "8.0, 8.0, 8.0"] and row[-1].strip(" |").endswith("arithmetic alone")
    assert occupancy_tables(study("load"), trials) == []


def test_the_figure_has_a_panel_a_number_of_experts_and_is_the_same_twice(trials, tmp_path):
    verdicts = {(one.case, one.seed): [] for one in trials}
    drawn = [write_study(study(), trials, tmp_path / place, verdicts)[1].read_bytes() for place in ("a", "b")]
    assert drawn[0] == drawn[1] and len(drawn[0]) > 30_000
