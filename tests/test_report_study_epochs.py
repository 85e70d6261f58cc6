"""What a study says of text that is read again and again: bits of train and val by hand, and who pays more for it."""

import json
import math
from dataclasses import replace

import pytest
from study_factory import of_text, trial

from harness.plan.study import Study
from harness.report.study.epochs import draw_epochs
from harness.report.study.folder import publish, read_folder, write_study
from harness.report.study.frame import cases_of
from harness.report.study.interaction import interaction_table
from harness.report.study.repetition import gap, passes, repetition_table
from harness.report.study.trials import SPANS, read_trial

SEEDS = (1, 2, 3)
VAL = {"dense": 2.0, "dense-1": 2.0, "dense-8": 2.2, "moe": 1.9, "moe-1": 1.9, "moe-8": 2.28}  # +10% dense, +20% MoE
WOBBLE = {1: 0.0, 2: 0.001, 3: -0.001}


def asked(**words):
    return Study("example", "an example", "Who pays more?", "sotu-dense", "epochs", {case: case for case in VAL},
                 families=["dense", "moe"], **words)  # fmt: skip


@pytest.fixture(scope="module")
def trials(tmp_path_factory):
    home, found = tmp_path_factory.mktemp("epochs"), []
    for case, val in VAL.items():
        epochs = int(case.partition("-")[2] or 0)
        for seed in SEEDS:
            bits = {"val": val * (1 + WOBBLE[seed]), "train": val - 0.05 - 0.1 * epochs}
            found.append(of_text(home, case, seed, epochs=epochs, steps=64, validations=(16, 32), **bits))
    return found


def verdicts(trials):
    return {(one.case, one.seed): [] for one in trials}


def cells(lines, case):
    return next(line.strip("| ").split(" | ") for line in lines if line.startswith(f"| {case} |"))


def test_bits_of_train_are_means_over_spans_of_the_budget_and_over_its_last_sixteenth(tmp_path):
    one = of_text(tmp_path, "one", steps=64)
    for row in one.steps:
        row["loss"] = row["step"] * math.log(2)  # as many bits as its number
    assert one.train.tokens == [4096 * 2 * (span + 1) for span in range(SPANS)]
    assert one.train.bits == pytest.approx([2 * span + 1.5 for span in range(SPANS)])
    assert one.train.last_bits == pytest.approx((61 + 62 + 63 + 64) / 4)


def test_a_run_of_fewer_steps_than_spans_has_the_spans_that_it_reached(tmp_path):
    one = of_text(tmp_path, "one", steps=3, validations=())
    for row in one.steps:
        row["loss"] = math.log(2)
    assert one.train.tokens == [4096, 8192, 12288] and one.train.bits == [1, 1, 1] and one.train.last_bits == 1


def test_a_stopped_run_has_a_curve_and_no_end(tmp_path):
    one = trial(tmp_path, "one", stopped=100)
    assert one.train.tokens and one.train.last_bits is None and gap(one) is None
    assert repetition_table(asked(), [one]) == []


def test_text_is_fresh_only_where_the_budget_does_not_reach_its_end(tmp_path):
    one, again = of_text(tmp_path, "one", steps=8), of_text(tmp_path, "again", epochs=4, steps=8)
    assert (passes(one), passes(again)) == ("fresh", "4") and again.train.read_bytes == 2 * 4096
    one.plan["track"]["train_bytes"] = 1000
    assert passes(one) == "all of train"


def test_the_table_has_the_end_of_train_the_gap_and_what_repetition_costs_over_one_pass(trials):
    lines = repetition_table(asked(), trials)
    fresh, once, again = (cells(lines, case) for case in ("dense", "dense-1", "moe-8"))
    assert fresh[1:4] == ["fresh", "262,144", "1.9500 ± 0.0000"] and fresh[5].startswith("0.0500 ± ")
    assert once[1] == "1" and once[-1] == "-", "it is what others are compared with"
    assert again[1:4] == ["8", "32,768", "1.4300 ± 0.0000"] and again[5].startswith("0.8500 ± ")
    assert again[-1] == "+20.00% (+20.00 to +20.00)"
    assert "bits per byte of the last sixteenth" in lines[1] and "one pass over it tells" in lines[1]
    without = [one for one in trials if not one.case.endswith("-1")]
    assert "against one pass" not in "\n".join(repetition_table(asked(), without))


def test_who_pays_more_for_repetition_is_told_with_its_sign(trials):
    row = next(line for line in interaction_table(asked(), trials) if line.startswith("| 8 |"))
    assert "| +10.00% (+10.00 to +10.00) | +20.00% (+20.00 to +20.00) | +10.00% " in row and "costs moe more" in row
    swapped = replace(asked(), families=["moe", "dense"])
    assert "costs moe more" in "\n".join(interaction_table(swapped, trials))
    assert "does more for dense" in "\n".join(interaction_table(replace(asked(), figure="cost"), trials))


def test_who_pays_more_for_repetition_alone_is_told_against_one_pass(tmp_path):
    val = VAL | {"dense-1": 2.1, "dense-8": 2.1, "moe-1": 1.9, "moe-8": 1.995}  # passages cost dense 5%, repetition MoE 5%
    trials = [
        of_text(tmp_path, case, seed, val=bits * (1 + WOBBLE[seed]), epochs=int(case.partition("-")[2] or 0), steps=64)
        for case, bits in val.items()
        for seed in SEEDS
    ]
    of_fresh = next(line for line in interaction_table(asked(), trials) if line.startswith("| 8 |"))
    assert of_fresh.count("+5.00% (+5.00 to +5.00)") == 2, "both pay as much over fresh text"
    lines = repetition_table(asked(), trials)
    (alone,) = [line for line in lines if line.startswith("| 8 |")]
    assert alone.count("+5.00%") == 2 and "costs moe more" in alone
    assert not any(line.startswith("| 1 |") for line in lines), "it is what others are compared with"
    without = [one for one in trials if one.case != "moe-1"]
    assert "Repetition alone" not in "\n".join(repetition_table(asked(), without))


def test_a_dial_that_costs_neither_family_is_not_said_to_cost_one_more(tmp_path):
    val = VAL | {"dense-8": 1.8, "moe-8": 1.52}  # -10% dense, -20% MoE
    trials = [of_text(tmp_path, case, seed, val=bits * (1 + WOBBLE[seed])) for case, bits in val.items() for seed in SEEDS]
    row = next(line for line in interaction_table(asked(), trials) if line.startswith("| 8 |"))
    assert "does more for moe" in row and "costs" not in row


def test_a_choice_of_sources_that_the_budget_reads_again_is_not_fresh(tmp_path):
    one = of_text(tmp_path, "one", epochs=4, steps=8)  # reads 8,192 bytes of a longer track
    one.plan["data"]["epochs"] = 0
    assert passes(one) == "all of train"


def test_only_a_study_of_epochs_says_anything_of_train(trials, tmp_path):
    assert repetition_table(replace(asked(), figure="cost"), trials) == []
    for figure in ("epochs", "cost"):
        *_, numbers = write_study(replace(asked(), figure=figure), trials, tmp_path / figure, verdicts(trials))
        stored = json.loads(numbers.read_text())["trials"]
        assert all(("train" in one) == (figure == "epochs") for one in stored)
        assert not any("val_parts" in one for one in stored)
    *_, numbers = write_study(asked(), trials, tmp_path / "numbers", verdicts(trials))
    last = json.loads(numbers.read_text())["trials"][-1]["train"]
    assert last["passes"] == 8 and last["read_bytes"] == 32768 and last["last_bits"] == pytest.approx(1.43)


def test_the_panels_hold_the_means_over_seeds(trials):
    fig = draw_epochs(asked(), cases_of(asked(), trials))
    train, val, end, more = fig.axes
    assert all(len(line.get_xdata()) == SPANS for line in train.lines) and len(val.lines) == len(VAL)
    dense, moe = (list(line.get_ydata()) for line in end.lines if len(line.get_xdata()) == 3)
    assert dense == pytest.approx([2.0, 2.0, 2.2]) and moe == pytest.approx([1.9, 1.9, 2.28])
    assert [tick.get_text() for tick in end.get_xticklabels()] == ["fresh", "1", "8"]
    points = [(line.get_xdata()[0], line.get_ydata()[0]) for line in more.lines if len(line.get_xdata()) == 1]
    assert points == [(1, pytest.approx(0, abs=1e-9)), (2, pytest.approx(10))]
    assert train.get_ylim() == val.get_ylim()


def test_the_figure_is_the_same_from_copies_of_records_alone(trials, tmp_path):
    out = tmp_path / "example"
    table, figure, numbers = publish(asked(), trials, out, verdicts(trials))
    before = [path.read_bytes() for path in (table, figure, numbers)]
    again, copies = read_folder(out)
    assert [path.read_bytes() for path in write_study(again, copies, out, verdicts(copies))] == before
    assert len(before[1]) > 20_000
    other = [one for one in trials if one.case != "moe-8"]
    assert write_study(asked(), other, tmp_path / "other", verdicts(other))[1].read_bytes() != before[1]


@pytest.mark.parametrize("kept", [{"dense"}, {"dense", "moe-8"}, set(VAL)])
def test_one_seed_and_cases_that_are_missing_are_drawn_too(trials, tmp_path, kept):
    some = [one for one in trials if one.case in kept and one.seed == 1]
    table, figure, _ = write_study(asked(), some, tmp_path / "out", verdicts(some))
    assert figure.exists() and "fresh" in table.read_text() or "dense" not in kept


def test_a_trial_read_again_says_the_same_of_train(trials):
    one = trials[-1]
    assert read_trial(one.case, one.seed, one.folder).train == one.train
