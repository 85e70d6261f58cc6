"""Parts of val in a study: what each case scores on each of them, what a dial changes, and where it changes more."""

import json
import re
from dataclasses import replace

import pytest
from study_factory import of_text

from harness.errors import UserError
from harness.plan.study import Study
from harness.report.study import part_panels
from harness.report.study.folder import publish, read_folder, write_study
from harness.report.study.frame import cases_of
from harness.report.study.interaction import interaction_table
from harness.report.study.parts import part_names, parts_tables
from harness.verbs import study as verb

SEEDS = (1, 2, 3)
BITS = {  # by case: bits of either part; `noise` is scored in two cases alone
    "dense": {"web": 2.0, "bbe": 2.5, "noise": 1.0}, "dense-many": {"web": 1.8, "bbe": 2.0},
    "moe": {"web": 2.0, "bbe": 2.5, "noise": 1.0}, "moe-many": {"web": 1.8, "bbe": 2.25},
}  # fmt: skip


def asked(**words):
    cases = {case: case for case in BITS}
    return Study("example", "an example", "Are many worth more?", "sotu-dense", "parts", cases, **words)


FAMILIES = {"families": ["dense", "moe"]}


@pytest.fixture(scope="module")
def trials(tmp_path_factory):
    home, found = tmp_path_factory.mktemp("parts"), []
    for case, parts in BITS.items():
        for seed in SEEDS:
            of_seed = {name: bits * (1 + 0.01 * seed) for name, bits in parts.items()}
            found.append(of_text(home, case, seed, parts=of_seed, steps=16, validations=()))
    return found


def verdicts(trials):
    return {(one.case, one.seed): [] for one in trials}


def cells(lines, label):
    return next(line.strip("| ").split(" | ") for line in lines if line.startswith(f"| {label} |"))


def test_a_row_a_case_a_column_a_part_with_the_change_against_the_familys_own_case(trials):
    lines = parts_tables(asked(**FAMILIES), trials)
    assert cells(lines, "case") == ["case", "web", "bbe", "noise"]
    assert cells(lines, "dense") == ["dense", "2.0400 ± 0.0200", "2.5500 ± 0.0250", "1.0200 ± 0.0100"]
    web, bbe, noise = cells(lines, "moe-many")[1:]
    assert web.startswith("1.8360 ± 0.0180, -10.00% (") and bbe.startswith("2.2950 ± 0.0225, -10.00% (") and noise == "-"


def test_whether_a_dial_does_more_in_one_family_is_said_part_by_part(trials):
    lines = parts_tables(asked(**FAMILIES), trials)
    dial, web, bbe, noise = cells(lines, "many")
    assert web.startswith("+0.00% (") or web.startswith("-0.00% (")
    assert bbe.startswith("**+10.00% (") and noise == "-"
    few = parts_tables(asked(**FAMILIES), [one for one in trials if one.seed < 3])
    assert cells(few, "many")[2].startswith("+10.00% ("), "two seeds resolve nothing"


def test_what_is_said_of_all_of_val_sends_the_reader_to_the_parts_that_are_asked_about(trials):
    said = interaction_table(asked(parts=["web", "bbe"], **FAMILIES), trials)[1]
    assert "This is all of val" in said and "web and bbe stand below by themselves" in said
    assert "all of val" not in interaction_table(asked(**FAMILIES), trials)[1]


def test_without_families_cases_are_compared_with_the_first_one(trials):
    lines = parts_tables(asked(), trials)
    assert "+0.00%" in cells(lines, "moe")[1] and not any("minus" in line for line in lines)


def test_a_study_whose_runs_have_no_parts_has_no_such_table(tmp_path):
    some = [of_text(tmp_path, case, steps=16, validations=()) for case in BITS]
    assert parts_tables(asked(**FAMILIES), some) == [] and part_names(some) == []
    *_, numbers = write_study(asked(**FAMILIES), some, tmp_path / "out", verdicts(some))
    assert not any("val_parts" in one for one in json.loads(numbers.read_text())["trials"])


def test_a_panel_a_named_part_with_bits_and_changes_by_family(trials, monkeypatch):
    drawn = []
    monkeypatch.setattr(part_panels, "with_interval", lambda ax, at, found, family, **_: drawn.append((ax, found, family)))
    study = asked(parts=["bbe"], **FAMILIES)
    left, right = part_panels.draw_parts(study, cases_of(study, trials)).axes
    assert left.get_title(loc="left") == "bbe: bits per byte" and right.get_title(loc="left") == "bbe: change, %"
    means = {ax: [round(found.mean, 6) for one, found, _ in drawn if one is ax] for ax in (left, right)}
    assert means == {left: [2.55, 2.04, 2.55, 2.295], right: [-20, -10]}
    assert [family for ax, _, family in drawn if ax is right] == [0, 1]
    assert [tick.get_text() for tick in left.get_yticklabels()] == ["as it is", "many"]


def test_all_parts_are_shown_where_none_is_named_and_one_that_nobody_scored_is_said(trials):
    fig = part_panels.draw_parts(asked(**FAMILIES), cases_of(asked(**FAMILIES), trials))
    assert len(fig.axes) == 6
    study = asked(parts=["web", "kjv"], **FAMILIES)
    fig = part_panels.draw_parts(study, cases_of(study, trials))
    assert len(fig.axes) == 2 and "no run has scores of kjv" in " ".join(text.get_text() for text in fig.texts).replace(
        "\n", " "
    )


def test_the_figure_and_numbers_are_the_same_from_copies_of_records_alone(trials, tmp_path):
    study, out = asked(parts=["web", "bbe"], **FAMILIES), tmp_path / "example"
    table, figure, numbers = publish(study, trials, out, verdicts(trials))
    before = [path.read_bytes() for path in (table, figure, numbers)]
    again, copies = read_folder(out)
    assert again == study
    assert [path.read_bytes() for path in write_study(again, copies, out, verdicts(copies))] == before
    stored = json.loads(numbers.read_text())
    assert stored["study"]["parts"] == ["web", "bbe"]
    assert stored["trials"][0]["val_parts"] == pytest.approx({"web": 2.02, "bbe": 2.525, "noise": 1.01})


def test_one_seed_and_missing_cases_are_drawn_too(trials, tmp_path):
    for number, kept in enumerate(({"dense"}, {"moe-many"})):
        some = [one for one in trials if one.case in kept and one.seed == 1]
        assert write_study(asked(**FAMILIES), some, tmp_path / str(number), verdicts(some))[1].exists()
    assert replace(asked(), parts=[]).content().keys().isdisjoint({"parts", "families"})


@pytest.mark.parametrize(
    "words, parts, said",
    [("", [], "none of whose cases is scored on parts of val.*renderings-dense"),
     ("", ["web"], "none of whose cases is scored on web"),
     ("unranked=true data.noise=[random_bytes]", ["web", "noise-random_bytes"], "scored on web\n.*are noise-random_bytes")],
)  # fmt: skip
def test_parts_that_no_case_is_scored_on_are_refused_before_anything_is_run(words, parts, said):
    study = replace(asked(parts=parts), cases={"a": words})
    with pytest.raises(UserError) as error:
        verb._jobs(study, [], [])
    assert re.search(said, str(error.value), re.DOTALL)
    scored = replace(asked(parts=["noise-random_bytes"]), cases={"a": "unranked=true data.noise=[random_bytes]"})
    assert [job.name for job in verb._jobs(scored, [], [])] == ["a"]
