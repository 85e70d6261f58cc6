"""What a study says of the tasks of its track: a planted change is told with its sign, and none where there is none."""

import re
from dataclasses import replace

import pytest
from study_factory import trial
from task_records import result, write_task_run

from harness.errors import UserError
from harness.plan.study import Study
from harness.report.study.folder import write_study
from harness.report.study.table import study_table
from harness.report.study.tasks import changes, task_tables, values
from harness.report.study.trials import read_trial
from harness.verbs import study as verb

CASES = {"one": "", "one-dial": "x", "two": "y", "two-dial": "x y"}
SKILLS = {"one": 0.80, "one-dial": 0.90, "two": 0.85, "two-dial": 0.85}  # by case: the dial helps the first family alone
SEEDS = (1, 2, 3)


def asked(figure="tasks", **words):
    return Study("example", "an example", "Which dial learns what?", "physics-dense", figure, dict(CASES), **words)


@pytest.fixture(scope="module")
def trials(tmp_path_factory):
    """Of a dial that moves every task of one family with every seed, and changes the other's by chance alone."""
    home, found = tmp_path_factory.mktemp("tasks"), []
    for case, skill in SKILLS.items():
        for seed in SEEDS:
            chance = {1: 0.0, 2: 0.004, 3: -0.004}[seed] if case == "two-dial" else 0.0
            folder = write_task_run(home / case / str(seed), found=result(skill + chance + 0.001 * seed), seed=seed)
            found.append(read_trial(case, seed, folder))
    return found


def cells(table: str, label: str) -> dict[str, dict[str, str]]:
    """By dial: {task: cell} of the table whose first column is called that."""
    lines = table.splitlines()
    at = next(number for number, line in enumerate(lines) if line.startswith(f"| {label} |"))
    names = [name.strip() for name in lines[at].strip("|").split("|")][1:]
    rows = {}
    for line in lines[at + 2 :]:
        if not line.startswith("|"):
            break
        dial, *found = [cell.strip() for cell in line.strip("|").split("|")]
        rows[dial] = dict(zip(names, found))
    return rows


def test_each_task_is_compared_at_equal_seeds_within_its_family(trials):
    table = study_table(asked(families=["one", "two"]), trials, {(t.case, t.seed): [] for t in trials})
    of_one, of_two = cells(table, "in one")["dial"], cells(table, "in two")["dial"]
    base = {t.seed: values(t) for t in trials if t.case == "one"}
    turned = {t.seed: values(t) for t in trials if t.case == "one-dial"}
    for task in ("copy", "mano", "lano"):
        mean = sum(turned[seed][task] - base[seed][task] for seed in SEEDS) / len(SEEDS)
        assert re.fullmatch(r"\*\*" + re.escape(f"{mean:+.3f}") + r" \(.+ to .+\)\*\*", of_one[task]), (
            "it holds with every seed"
        )
        assert not of_two[task].startswith("**"), "it is chance"
    assert of_one["copy"].startswith("**+") and of_one["lano"].startswith("**-"), "less KL is better"
    between = cells(table, "two minus one")["dial"]
    assert between["copy"].startswith("**-") and between["lano"].startswith("**+")


def test_how_many_cells_would_leave_nothing_out_by_chance_alone_is_said(trials):
    said = "\n".join(task_tables(asked(families=["one", "two"]), trials))
    count = sum(
        cell.startswith("**") for label in ("in one", "in two", "two minus one") for cell in cells(said, label)["dial"].values()
    )
    assert f"That is so of {count} among 21 cells, where chance alone would have it of about 1." in said


def test_two_seeds_resolve_nothing_and_one_has_no_interval(trials):
    for few in (1, 2):
        some = [one for one in trials if one.seed <= few]
        said = "\n".join(task_tables(asked(families=["one", "two"]), some))
        assert "**" not in said and ("(" in cells(said, "in one")["dial"]["copy"]) == (few == 2)


def test_without_families_the_first_case_is_what_others_are_compared_with(trials):
    said = "\n".join(task_tables(asked(), trials))
    assert list(cells(said, "against one")) == ["one-dial", "two", "two-dial"]


def test_a_seed_that_one_side_lacks_is_left_out(trials):
    some = [one for one in trials if (one.case, one.seed) != ("one", 2)]
    assert changes(some, "one", "one-dial")["copy"].keys() == {1, 3}


def test_a_study_of_text_has_no_section_on_tasks(tmp_path):
    some = [trial(tmp_path, case) for case in ("one", "two")]
    assert task_tables(asked(), some) == []


def test_the_figure_has_a_panel_a_task_and_is_the_same_twice(trials, tmp_path):
    verdicts = {(one.case, one.seed): [] for one in trials}
    whole = asked(families=["one", "two"])
    drawn = [write_study(whole, trials, tmp_path / place, verdicts)[1].read_bytes() for place in ("one", "two")]
    assert drawn[0] == drawn[1] and len(drawn[0]) > 20_000
    moved = [one for one in trials if one.case != "two-dial"]
    assert write_study(whole, moved, tmp_path / "three", verdicts)[1].read_bytes() != drawn[0]


def test_a_lane_without_tasks_is_refused_before_anything_is_run():
    with pytest.raises(UserError, match="figure tasks of lane tiny-dense, whose track has no tasks") as error:
        verb._jobs(replace(asked(), lane="tiny-dense", cases={"a": ""}), [], [])
    assert "physics-dense" in str(error.value)
