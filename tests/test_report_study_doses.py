"""Doses of a kind: which cases they are, what each costs either family, and how it is drawn."""

from dataclasses import replace
from functools import reduce

import pytest
from study_factory import of_text

from harness.plan.compose import compose
from harness.plan.study import Study, read_study, study_names
from harness.report.study import doses
from harness.report.study.folder import publish, read_folder, write_study
from harness.report.study.frame import cases_of
from harness.report.study.interaction import interaction_table

SEEDS = (1, 2, 3)
COST = {"dirt-5": (0.01, 0.02), "dirt-50": (0.1, 0.15), "shuffled-words-20": (0.05, 0.05), "dirt-50-once": (0.02, 0.02)}
BASE = {"dense": 2.0, "moe": 1.8}


def asked(**words):
    cases = {family: family for family in BASE}
    cases |= {f"{family}-{dial}": f"{family} {dial}" for family in BASE for dial in COST}
    shared = {"families": list(BASE), "axis": "data.noise_share"}
    return Study("example", "an example", "What does dirt cost?", "sotu-dense", "doses", cases, **shared, **words)


@pytest.fixture(scope="module")
def trials(tmp_path_factory):
    home, found = tmp_path_factory.mktemp("doses"), []
    for at, (family, bits) in enumerate(BASE.items()):
        for dial, cost in {"": (0.0, 0.0), **COST}.items():
            for seed in SEEDS:
                val = bits * (1 + 0.01 * seed) * (1 + cost[at])  # what a seed does falls out
                found.append(of_text(home, f"{family}-{dial}".strip("-"), seed, val=val, steps=16, validations=()))
    return found


def verdicts(trials):
    return {(one.case, one.seed): [] for one in trials}


def test_a_dose_is_a_dial_that_ends_with_a_level_and_kinds_may_have_hyphens():
    assert asked().doses == {"dirt": {5.0: "dirt-5", 50.0: "dirt-50"}, "shuffled-words": {20.0: "shuffled-words-20"}}
    turned = replace(asked(), cases={"dense": "", "moe": ""} | {f"{f}-a-{n}": "" for f in BASE for n in ("50", "5", "0.5")})
    assert turned.doses == {"a": {0.5: "a-0.5", 5.0: "a-5", 50.0: "a-50"}}, "levels rise"
    assert replace(asked(), families=[]).doses == {}


def test_what_is_drawn_is_the_cost_at_equal_seeds_by_level_and_what_the_second_family_pays_more(trials, monkeypatch):
    drawn = []
    monkeypatch.setattr(doses, "with_interval", lambda ax, at, found, family, **_: drawn.append((at, found, family)))
    fig = doses.draw_doses(asked(), cases_of(asked(), trials))
    shown = [(round(at), round(found.mean, 6), family) for at, found, family in drawn]
    assert shown[:6] == [(4, 1, 0), (6, 2, 1), (5, 1, 6), (49, 10, 0), (51, 15, 1), (50, 5, 6)]
    assert shown[6:9] == [(19, 5, 0), (21, 5, 1), (20, 0, 6)], "the next kind"
    assert [(mean, family) for _, mean, family in shown[9:]] == [(2, 0), (2, 1)], "what is no dose, in a row of its own"
    assert all(found.n == 3 and found.sd == pytest.approx(0, abs=1e-9) for _, found, _ in drawn)
    titles = [ax.get_title(loc="left") for ax in fig.axes if ax.get_visible()]
    assert titles[:2] == ["dirt", "shuffled words"] and "other dials: change, %" in titles
    first = fig.axes[0]
    assert list(first.lines[-2].get_xdata())[0] == 0 and any(list(line.get_ydata())[:1] == [0.0] for line in first.lines)


def test_the_panels_of_effects_share_one_scale(trials):
    fig = doses.draw_doses(asked(), cases_of(asked(), trials))
    one, other = (ax for ax in fig.axes if ax.get_title(loc="left") in ("dirt", "shuffled words"))
    assert one.get_ylim() == other.get_ylim() and one.get_ylim()[1] >= 15


def test_the_table_says_whom_a_dose_costs_more(trials):
    lines = {line.split(" | ")[0].strip("| "): line for line in interaction_table(asked(), trials)}
    assert "costs moe more" in lines["dirt-50"] and "+5.00%" in lines["dirt-50"]
    assert "+2.00%" in lines["dirt-50-once"]


def test_the_figure_is_the_same_from_copies_of_records_alone(trials, tmp_path):
    out = tmp_path / "example"
    _, figure, _ = publish(asked(), trials, out, verdicts(trials))
    before = figure.read_bytes()
    again, copies = read_folder(out)
    assert write_study(again, copies, out, verdicts(copies))[1].read_bytes() == before and len(before) > 20_000


@pytest.mark.parametrize("kept", [{"dense"}, {"dense", "dense-dirt-5"}, {"moe-dirt-5"}])
def test_one_seed_and_missing_cases_are_drawn_too(trials, tmp_path, kept):
    some = [one for one in trials if one.case in kept and one.seed == 1]
    assert write_study(asked(), some, tmp_path / "out", verdicts(some))[1].exists()


def test_more_kinds_than_fit_a_row_go_on_in_the_next_one(trials):
    dials = [f"kind{number}-{level}" for number in range(7) for level in (5, 50)]
    many = replace(asked(), cases={f"{f}{dial}": "" for f in BASE for dial in ("", *(f"-{dial}" for dial in dials))})
    named = [replace(one, case=f"{one.case.split('-')[0]}-kind6-5") for one in trials if one.case.endswith("dirt-5")]
    named += [one for one in trials if one.case in BASE]
    fig = doses.draw_doses(many, cases_of(many, named))
    assert sum(ax.get_visible() for ax in fig.axes) == 14


def lying(study: Study) -> list[str]:
    """Cases whose name has another level than their plan."""
    found = []
    for case, level in (
        (f"{f}-{dial}", level) for of_kind in study.doses.values() for level, dial in of_kind.items() for f in BASE
    ):
        plan = compose(study.words(case)).plan
        said = reduce(getattr, study.axis.split("."), plan)
        found += [case] if 100 * said != pytest.approx(level) else []
    return found


@pytest.mark.slow
def test_the_level_in_a_cases_name_is_that_of_its_plan():
    noise = "data.noise=[random_bytes] data.noise_share"
    cases = {"dense": "", "moe": "", "dense-a-5": f"{noise}=0.05", "moe-a-5": f"{noise}=0.5"}
    made = replace(asked(common="unranked=true"), cases=cases)
    assert lying(made) == ["moe-a-5"]
    of_doses = [study for study in map(read_study, study_names()) if study.figure == "doses" and study.axis]
    assert [case for study in of_doses for case in lying(study)] == []
