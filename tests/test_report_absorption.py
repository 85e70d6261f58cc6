"""What experts tell of noise, by hand-made counts of noise and of val."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from report_factory import edit_record, write_run

from harness.errors import UserError
from harness.plan.study import Study
from harness.report.study.absorption import Absorption, absorption_table, absorptions
from harness.report.study.table import study_table
from harness.report.study.trials import Trial, read_trial

EVEN, APART = ([100, 100, 100, 100], [100, 100, 100, 100]), ([200, 200, 0, 0], [0, 0, 50, 50])
TURNED = {"documents": 9, "kept": 9, "noise_bytes": 500, "read_bytes": 999, "read_sha256": "ab" * 32, "shares": {"all": 1.0}}
COUNTS = st.lists(st.integers(1, 10**6), min_size=4, max_size=4)


def study(*cases: str, families: tuple[str, ...] = ()) -> Study:
    words = {case: "" for case in cases}
    return Study("quality", "a title", "A question?", "tiny-moe-16e", "cost", words, families=list(families))


def run(home: Path, case: str, seed: int, noise, spoilt: bool = True, kind: str = "boilerplate", experts: int = 4) -> Trial:
    """`noise`: counts of noise and of val, the same in both layers."""
    folder = write_run(home / case / str(seed), seed=seed, experts=experts, top_k=2, layers=2)
    *rows, final = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    noise_E, clean_E = noise
    part = {"nats": 50.0, "bytes": 99, "counts": [list(noise_E)] * 2 if experts else []}
    final["parts"] = {f"noise-{kind}": part, "web": {"nats": 1.0, "bytes": 9}}
    final |= {"counts": [list(clean_E)] * 2} if experts else {}
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in [*rows, final]))
    edit_record(folder, data__turned=TURNED | {"noise_bytes": 500 * spoilt})
    return read_trial(case, seed, folder)


def cells(table: list[str], case: str) -> list[str]:
    (found,) = [line for line in table if line.startswith(f"| {case} |")]
    return [cell.strip() for cell in found.strip("|").split("|")]


def test_experts_that_part_noise_from_text_tell_a_bit_and_the_same_experts_nothing():
    apart, even = (Absorption(np.array([noise]), np.array([clean])) for noise, clean in (APART, EVEN))
    assert apart.told_L == pytest.approx([1]) and apart.noisiest_L == pytest.approx([1])
    assert even.told_L == pytest.approx([0]) and even.noisiest_L == pytest.approx([0.5])


def test_one_noisy_expert_by_hand():
    found = Absorption(np.array([[3, 1]]), np.array([[1, 1]]))  # shares 3/4 and 1/4 of noise, 1/2 and 1/2 of val
    noise = 0.75 * np.log2(0.75 / 0.625) + 0.25 * np.log2(0.25 / 0.375)
    clean = 0.5 * np.log2(0.5 / 0.625) + 0.5 * np.log2(0.5 / 0.375)
    assert found.told_L == pytest.approx([(noise + clean) / 2])
    assert found.noisiest_L == pytest.approx([0.6])


def test_an_expert_with_a_row_or_two_is_not_the_noisiest():
    assert Absorption(np.array([[1, 700, 1299]]), np.array([[0, 1000, 1000]])).noisiest_L == pytest.approx([0.565], abs=0.001)


@given(noise=COUNTS, clean=COUNTS, times=st.integers(1, 100))
def test_only_shares_count_and_both_figures_lie_in_their_bounds(noise, clean, times):
    found = Absorption(np.array([noise]), np.array([clean]))
    assert -1e-12 <= found.told_L[0] <= 1 and 0.5 - 1e-12 <= found.noisiest_L[0] <= 1
    more = Absorption(times * np.array([noise]), np.array([clean]))
    assert more.told_L == pytest.approx(found.told_L) and more.noisiest_L == pytest.approx(found.noisiest_L)
    other_way = Absorption(np.array([clean]), np.array([noise]))
    assert other_way.told_L == pytest.approx(found.told_L)


def test_the_table_sets_a_case_beside_the_one_without_noise_at_equal_seeds(tmp_path):
    trials = [run(tmp_path, "moe", seed, EVEN, spoilt=False) for seed in (1, 2, 3, 4)]
    trials += [run(tmp_path, "moe-boilerplate-50", seed, APART) for seed in (1, 2, 3)]
    found = cells(absorption_table(study("moe", "moe-boilerplate-50"), trials), "moe-boilerplate-50")
    assert found[1:6] == ["boilerplate", "3", "1.0000 ± 0.0000", "1.000 1.000", "0.0000 ± 0.0000"]
    assert found[6] == "+1.0000 (+1.0000 to +1.0000)" and found[7].startswith("1.00") and found[8].startswith("0.50")
    assert found[9] == "experts part noise from text more than without it in training"


def test_what_seeds_do_not_resolve_is_said(tmp_path):
    slightly = [([100, 100, 100, 100 + 9 * way], EVEN[1]) for way in (0, 1, 4)]
    trials = [run(tmp_path, "moe", seed, slightly[(seed + 1) % 3], spoilt=False) for seed in (1, 2, 3)]
    trials += [run(tmp_path, "moe-more", seed, slightly[seed % 3]) for seed in (1, 2, 3)]
    found = cells(absorption_table(study("moe", "moe-more"), trials), "moe-more")
    assert found[-1] == "no difference that 3 seeds resolve"
    few = cells(absorption_table(study("moe", "moe-more"), [trials[0], trials[3]]), "moe-more")
    assert few[-1] == "n = 1: a verdict takes 3 seeds"


def test_a_case_without_a_control_has_its_own_figures_and_no_verdict(tmp_path):
    trials = [run(tmp_path, "moe", 1, EVEN, spoilt=False, kind="random_bytes"), run(tmp_path, "moe-more", 1, APART)]
    found = cells(absorption_table(study("moe", "moe-more"), trials), "moe-more")
    assert found[3] == "1.0000" and found[5] == found[6] == "-" and found[9] == "no case without noise to compare with"


def test_families_have_each_its_own_control_and_a_dense_one_none(tmp_path):
    cases = ("dense", "moe", "dense-more", "moe-more")
    trials = [run(tmp_path, case, 1, EVEN, spoilt="more" in case, experts=0 if "dense" in case else 4) for case in cases]
    assert absorptions(trials[0]) == {}
    table = absorption_table(study(*cases, families=("dense", "moe")), trials)
    assert cells(table, "moe-more") and not [line for line in table if line.startswith("| dense")]


def test_a_study_without_noise_has_no_such_table(tmp_path):
    trials = [run(tmp_path, case, 1, EVEN, spoilt=False) for case in ("moe", "moe-more")]
    assert absorption_table(study("moe", "moe-more"), trials) == []


def test_it_stands_below_the_table_of_a_study(tmp_path):
    trials = [run(tmp_path, "moe", 1, EVEN, spoilt=False), run(tmp_path, "moe-more", 1, APART)]
    assert "What experts tell of the noise" in study_table(study("moe", "moe-more"), trials, {(t.case, 1): [] for t in trials})


def test_counts_of_a_part_that_are_not_of_the_plan_are_refused(tmp_path):
    with pytest.raises(UserError, match=r"part noise-boilerplate of the final row counts \[3, 3\] experts by layer"):
        run(tmp_path, "moe", 1, ([1, 2, 3], EVEN[1]))
