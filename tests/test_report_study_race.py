"""A study of the clock: seconds to the line and their slope, what a dial does to them, and what is no race."""

import json
import math
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from report_factory import edit_record, write_run

from harness.errors import UserError
from harness.plan.compose import compose
from harness.plan.race import refuse_race
from harness.plan.study import Study, StudyFile
from harness.reading import validate
from harness.record.ledger import equivalent_s, fall
from harness.report.study.folder import publish, read_folder, write_study
from harness.report.study.frame import cases_of
from harness.report.study.race import slopes, to_line
from harness.report.study.race_panels import draw_race
from harness.report.study.race_table import race_tables
from harness.report.study.table import study_table
from harness.report.study.trials import Trial, read_trial

LEVEL, SEEDS = 1.6624, (1, 2, 3)  # of `tiny`, in the factory
SLOPE = {"dense": 0.2, "moe": 0.1}
OWN = {"dense": (1.65, 10.0), "moe": (1.64, 12.0)}  # bits, seconds
# By dial: what it adds to bits, what it multiplies seconds by, and how far a seed moves its bits.
DIALS = {"wide": (-0.02, 1.5, 0.0), "plain": (0.05, 0.8, 0.0), "noisy": (0.0, 1.0, 0.02), "2.5": (0.01, 1.0, 0.0)}
MORE = {"moe": {"top-2": (0.03, 0.9, 0.0)}}


def asked(**words) -> Study:
    dials = ("half", *DIALS)
    cases = {family: f"{family}=1" for family in OWN}
    cases |= {f"{family}-{dial}": f"{dial}=1" for family in OWN for dial in (*dials, *MORE.get(family, {}))}
    return Study(
        "example", "an example", "What is sooner?", "tiny-open", "race", cases, equal="line", families=list(OWN), **words
    )


def ran(home: Path, case: str, seed: int, bits: float, seconds: float, **words) -> Trial:
    about_run = {"lane": "tiny-open", "opened": True, "experts": 0, "steps": 16, "validations": ()} | words
    folder = write_run(home / case / str(seed), seed=seed, **about_run)
    edit_record(folder, metrics__slice_bpb=bits, clock__train_s=seconds)
    return read_trial(case, seed, folder)


@pytest.fixture(scope="module")
def trials(tmp_path_factory) -> list[Trial]:
    """Seeds move the bits and the seconds of all cases alike, which falls out of pairs."""
    home, found = tmp_path_factory.mktemp("race"), []
    for family, (bits, seconds) in OWN.items():
        half = {"half": (SLOPE[family] * math.log(2), 0.5, 0.0)}
        for dial, (more, times, wobble) in {"": (0.0, 1.0, 0.0), **half, **DIALS, **MORE.get(family, {})}.items():
            for seed in SEEDS:
                case = f"{family}-{dial}".strip("-")
                at_seed = bits + more + 0.004 * seed + wobble * (seed - 2)
                found.append(ran(home, case, seed, at_seed, seconds * times * (1 + 0.01 * seed)))
    return found


def verdicts(trials):
    return {(one.case, one.seed): [] for one in trials}


def cells(lines: list[str], label: str) -> list[list[str]]:
    return [line.strip("| ").split(" | ")[1:] for line in lines if line.startswith(f"| {label} |")]


@given(st.floats(0.01, 1), st.floats(-1, 1), st.lists(st.floats(1, 1e4), min_size=2, max_size=5, unique=True))
def test_the_slope_of_points_on_a_line_is_that_of_the_line(slope, at, seconds):
    found = fall([(second, 3 + at - slope * math.log(second)) for second in seconds])
    if max(seconds) > 1.01 * min(seconds):
        assert found == pytest.approx(slope, abs=1e-9)
    assert fall([]) == fall([(2.0, 1.0)]) == fall([(2.0, 1.0), (2.0, 3.0)]) == 0


@given(st.floats(0.02, 1), st.floats(1, 1000), st.floats(0.2, 5))
def test_longer_training_at_the_slope_changes_no_seconds_to_the_line(slope, seconds, times):
    before = equivalent_s(seconds, 1.7, LEVEL, slope)
    after = equivalent_s(seconds * times, 1.7 - slope * math.log(times), LEVEL, slope)
    assert after == pytest.approx(before, rel=1e-9)
    assert equivalent_s(seconds, LEVEL, LEVEL, slope) == pytest.approx(seconds)


def test_the_slope_is_that_between_a_familys_case_and_its_half_seed_by_seed(trials):
    found = slopes(asked(), trials)
    assert {family: slope.values for family, slope in found.items()} == {
        family: pytest.approx([slope] * 3) for family, slope in SLOPE.items()
    }
    lines = race_tables(asked(), trials)
    assert any("dense 0.2000 (0.2000 to 0.2000), moe 0.1000" in line for line in lines)
    assert cells(lines, "dense-half") == [["+0.1386 (+0.1386 to +0.1386)", "0.500x (0.500 to 0.500)", "gives the slope", "-"]]


def test_a_dial_is_a_ratio_of_seconds_to_the_line_at_equal_seeds(trials):
    lines = race_tables(asked(), trials)
    for family, slope in SLOPE.items():
        for dial, (more, times, _) in {**DIALS, **MORE.get(family, {})}.items():
            bits, seconds, to, said = cells(lines, f"{family}-{dial}")[0]
            ratio = times * math.exp(more / slope)
            assert bits.startswith(f"{more:+.4f} (") and seconds.startswith(f"{times:.3f}x (")
            assert to.startswith(f"{ratio:.3f}x ("), (family, dial)
            if dial == "noisy":
                assert said == "no difference that 3 seeds resolve"
            else:
                assert said == ("later at the line" if ratio > 1 else "sooner at the line")
    own = cells(lines, "moe")[0]
    geometric = math.exp(sum(math.log(12 * (1 + 0.01 * seed)) + (1.64 + 0.004 * seed - LEVEL) / 0.1 for seed in SEEDS) / 3)
    assert own[0] == "1.6480 ± 0.0040" and own[2].startswith(f"{geometric:.2f} s (")


def test_the_interval_is_that_of_t_over_seeds_on_ln_ratios(trials):
    to = cells(race_tables(asked(), trials), "dense-noisy")[0][2]
    half = 4.302652729911275 * (0.02 / 0.2) / math.sqrt(3)  # t of 2 degrees of freedom; the sd of -1, 0, 1 is 1
    assert to == f"1.000x ({math.exp(-half):.3f} to {math.exp(half):.3f})"


def test_whether_a_dial_is_more_in_one_family_is_said_of_what_both_turn(trials):
    lines = race_tables(asked(), trials)
    dense, moe, over, said = cells(lines, "plain")[0]
    assert over.startswith(f"{math.exp(0.05 / 0.1 - 0.05 / 0.2):.3f}x (") and said == "costs moe more"
    assert cells(lines, "wide")[0][3] == "costs dense more" and cells(lines, "2.5")[0][3] == "costs moe more"
    assert cells(lines, "noisy")[0][3] == "no difference that 3 seeds resolve"
    assert cells(lines, "half") == cells(lines, "top-2") == []
    assert any("| dial | in dense | in moe | moe over dense | verdict |" in line for line in lines)


def test_the_families_stand_against_each_other_in_bits_seconds_and_seconds_to_the_line(trials):
    lines = race_tables(asked(), trials)
    (bits,), (seconds,), (line,) = (cells(lines, label) for label in ("slice", "training seconds", "seconds to the line"))
    assert bits == ["1.6580 ± 0.0040", "1.6480 ± 0.0040", "-0.0100 (-0.0100 to -0.0100)", "-"]
    assert seconds[2].startswith("1.200x (") and seconds[3] == "dense is sooner"
    of_seed = [math.log(1.2) + (1.64 + 0.004 * s - LEVEL) / 0.1 - (1.65 + 0.004 * s - LEVEL) / 0.2 for s in SEEDS]
    middle, half = sum(of_seed) / 3, 4.302652729911275 * 0.004 * (1 / 0.1 - 1 / 0.2) / math.sqrt(3)
    assert line[2] == f"{math.exp(middle):.3f}x ({math.exp(middle - half):.3f} to {math.exp(middle + half):.3f})"
    assert middle > half and line[3] == "dense is sooner"
    other = replace(asked(), families=["moe", "dense"])
    assert cells(race_tables(other, trials), "training seconds")[0][3] == "dense is sooner"


def test_two_seeds_give_no_verdict_and_one_no_interval(trials):
    two = race_tables(asked(), [one for one in trials if one.seed < 3])
    assert {said for row in ("dense-plain", "plain", "training seconds") for *_, said in cells(two, row)} == {
        "n = 2: a verdict takes 3 seeds"
    }
    one = race_tables(asked(), [one for one in trials if one.seed == 1])
    assert cells(one, "moe-wide")[0][:3] == ["-0.0200", "1.500x", f"{1.5 * math.exp(-0.2):.3f}x"]


def test_runs_whose_machine_was_not_their_own_have_bits_and_no_seconds(trials, tmp_path):
    disturbed = ran(tmp_path, "moe-plain", 3, 1.69, 99.0, taken=0.2)
    some = [one for one in trials if (one.case, one.seed) != ("moe-plain", 3)] + [disturbed]
    table = study_table(asked(), some, verdicts(some)).splitlines()
    bits, seconds, to, said = cells(table, "moe-plain")[1]
    assert bits.startswith("+0.0") and seconds.startswith("0.800x") and said == "n = 2: a verdict takes 3 seeds"
    assert any("No time of moe-plain seed 3: other processes took 20.0%" in line for line in table)
    captions = " ".join(text.get_text() for text in draw_race(asked(), cases_of(asked(), some)).texts).replace("\n", " ")
    assert "no time of moe-plain seed 3" in captions


def test_without_a_slope_there_are_no_seconds_to_the_line_and_it_is_said_of_whom(trials, tmp_path):
    rising = [one for one in trials if one.case != "moe-half"]
    rising += [ran(tmp_path, "moe-half", seed, 1.6, 6.0) for seed in SEEDS]
    for some in (rising, [one for one in trials if one.case != "moe-half"]):
        lines = race_tables(asked(), some)
        assert any(line.startswith("No seconds to the line of moe: no seed has both its case and its half") for line in lines)
        assert cells(lines, "moe-plain")[0][1:] == ["0.800x (0.800 to 0.800)", "-", "-"] and cells(lines, "plain") == []
        assert cells(lines, "dense-plain")[0][3] == "later at the line"
        assert to_line(asked(), some).keys() == {"dense"}
        draw_race(asked(), cases_of(asked(), some))


def test_a_row_of_panels_a_family_with_ratios_left_and_runs_right(trials):
    fig = draw_race(asked(), cases_of(asked(), trials))
    dense, of_dense, moe, of_moe = fig.axes
    names = ["as it is", "half", *DIALS]
    assert [tick.get_text() for tick in dense.get_yticklabels()] == names
    assert [tick.get_text() for tick in moe.get_yticklabels()] == [*names, "top-2"]
    at = {int(line.get_ydata()[0]): line.get_xdata()[0] for line in moe.lines if line.get_marker() not in (None, "None", "")}
    ratios = [1, 1, *(times * math.exp(more / 0.1) for more, times, _ in [*DIALS.values(), *MORE["moe"].values()])]
    assert at == {row: pytest.approx(ratio) for row, ratio in enumerate(ratios)}
    assert dense.get_xscale() == of_moe.get_xscale() == "log" and dense.get_xlim() == moe.get_xlim()
    assert of_dense.get_ylim() == of_moe.get_ylim()
    runs = [(x, y) for line in of_moe.lines if line.get_linestyle() == "None" for x, y in zip(*line.get_data())]
    assert sorted(runs) == sorted((one.train_s, one.bpb) for one in trials if one.case.startswith("moe"))
    (slope,) = [line for line in of_moe.lines if line.get_linestyle() == "--"]
    (x0, x1), (y0, y1) = slope.get_data()
    assert (y0 - y1) / math.log(x1 / x0) == pytest.approx(SLOPE["moe"])
    assert [line.get_ydata()[0] for line in of_moe.lines if "xz_given_train" in str(line.get_label())] == [LEVEL]


def test_table_figure_and_numbers_are_the_same_from_copies_of_records_alone(trials, tmp_path):
    out = tmp_path / "example"
    written = publish(asked(), trials, out, verdicts(trials))
    before = [path.read_bytes() for path in written]
    again, copies = read_folder(out)
    assert again == asked()
    assert [path.read_bytes() for path in write_study(again, copies, out, verdicts(copies))] == before
    stored = json.loads(written[2].read_text())
    assert (
        stored["trials"][0]["race"] == pytest.approx({"train_s": 10.1, "figure": 1.654}) and stored["study"]["equal"] == "line"
    )
    assert "of {measure} of val" not in before[0].decode() and "changes of bits per byte of val" not in before[0].decode()


def test_a_case_of_a_race_has_its_familys_words_and_then_its_own():
    study = asked(common="unranked=true")
    assert study.words("moe-top-2") == ["lane=tiny-open", "unranked=true", "moe=1", "top-2=1"]
    assert study.words("dense") == ["lane=tiny-open", "unranked=true", "dense=1"]
    assert replace(study, figure="cost").words("moe-top-2") == ["lane=tiny-open", "unranked=true", "top-2=1"]
    assert study.dials == ["half", *DIALS] and list(study.of_family("moe")) == ["half", *DIALS, "top-2"]


FILE = {
    "title": "t", "question": "q?", "lane": "tiny-open", "figure": "race", "equal": "line", "families": ["dense", "moe"],
    "cases": {"dense": "", "dense-half": "a", "moe": "", "moe-half": "a"},
}  # fmt: skip


@pytest.mark.parametrize(
    "change, said",
    [({"cases": {"dense": "", "dense-half": "a", "moe": ""}}, "family moe without the dial half: case moe-half: budget.tokens"),
     ({"cases": FILE["cases"] | {"other-half": "a"}}, "case 'other-half' of no family, which is named dense-DIAL or moe-DIAL"),
     ({"families": []}, "race of no families"), ({"equal": "tokens"}, "figure race with equal: tokens"),
     ({"figure": "cost"}, "figure cost with equal: line")],
)  # fmt: skip
def test_a_file_that_is_no_race_is_refused_by_what_it_lacks(change, said):
    validate(FILE, StudyFile, Path("studies/x.yaml"))
    with pytest.raises(UserError, match=said):
        validate(FILE | change, StudyFile, Path("studies/x.yaml"))


def test_a_half_that_is_none_and_a_lane_without_a_race_are_refused():
    plan, half, other, less, closed = (
        compose(words).plan
        for words in (
            ["lane=tiny-open"], ["lane=tiny-open", "budget.tokens=786432"],
            ["lane=tiny-open", "budget.tokens=786432", "optim.muon.lr=0.5"], ["lane=tiny-open", "budget.tokens=700416"],
            ["lane=tiny-dense"],
        )
    )  # fmt: skip
    refuse_race(["dense", "moe"], {"dense": plan, "dense-half": half, "moe": plan})
    for plans, said in (
        ({"moe": plan, "moe-half": other}, "moe-half differs from moe by more than its budget: optim.muon.lr"),
        ({"moe": plan, "moe-half": less}, "moe-half has 700,416 tokens, and moe 1,572,864: that is no half"),
        ({"moe": closed}, "lane tiny-dense, which is not open"),
        ({"moe": replace(plan, track=replace(plan.track, target=""))}, "whose track has no line to pass"),
    ):
        with pytest.raises(UserError, match=said):
            refuse_race(["dense", "moe"], plans)


def test_a_target_of_tokens_is_read_as_the_target_states_it():
    target = SimpleNamespace(metric="slice_loss", level=3.0)
    metrics = SimpleNamespace(target=target, slice_loss=3.1, slice_bpb=1.2)
    assert Trial.raced.fget(SimpleNamespace(record=SimpleNamespace(metrics=metrics))) == 3.1
    assert Trial.raced.fget(SimpleNamespace(record=None)) is None
