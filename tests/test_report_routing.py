"""A study of experts and tasks: what its tables call and what they do not, its figure, and the evidence of both."""

import json
from dataclasses import replace

import numpy as np
import pytest
from inspect_factory import BEYOND_IDS, write_inspection
from matplotlib.image import imread
from task_records import result, write_task_run

from harness.__main__ import main
from harness.interval import wilson
from harness.plan.fingerprint import stored_plan_hash
from harness.plan.study import Study
from harness.report.study import folder as study_folder
from harness.report.study.check import study_problems
from harness.report.study.folder import publish, read_folder, write_study
from harness.report.study.frame import cases_of
from harness.report.study.routing import draw_routing
from harness.report.study.routing_table import routing_tables
from harness.report.study.table import study_table
from harness.report.study.trials import read_trial

TASKS = ("depo", "mano", "brevo", "lano", "scrambled")
SEEDS = 4
CASES = {name: f"model.top_k={at}" for at, name in enumerate(("none", "few", "some", "half", "more", "most"))}
STUDY = Study("example", "an example", "Do experts specialise?", "physics-moe-16e", "routing", CASES)


def scores(skill):
    """As a model of this skill by task has them, over two difficulties."""
    found = result(0.9, tasks=TASKS)
    for row in found["scores"]:
        own = skill[row["task"]]
        if "kl" in row:
            row["kl"] = 0.0002 if row["task"] == "scrambled" else 1 - own
        else:
            row["right"] = round(own * row["n"])
            row |= {"exact_match": row["right"] / row["n"], "interval": list(wilson(row["right"], row["n"]))}
    found["right"] = {task: {} for task in TASKS}
    for row in found["scores"]:
        found["right"][row["task"]][str(row["difficulty"])] = "1" * row["right"] + "0" * (row["n"] - row["right"])
    return found


def trials_of(home, seeds=SEEDS, inspected=True):
    """Runs that are the better at depo the more their experts are for it, and at lano the worse; at mano neither. What a case
    does makes them both better at brevo and more for it, while its seeds have nothing of it."""
    draws, found = np.random.default_rng(7), []
    for at, case in enumerate(CASES):
        for seed in range(1, seeds + 1):
            own, noise = (4 * at + seed) / 32, draws.random(3).tolist()
            of_case = 0.15 * at + 0.02 * (2, 4, 1, 3)[seed - 1]
            skill = {"depo": own, "mano": noise[0], "brevo": of_case, "lano": 1 - own, "scrambled": 0}
            folder = write_task_run(home / case / str(seed), found=scores(skill), seed=seed)
            strength = {"depo": own, "mano": 0.3 + noise[1] / 10, "brevo": 0.15 * at + 0.02 * seed, "lano": own}
            strength["scrambled"] = 0.3 + noise[2] / 10
            if inspected:
                write_inspection(folder, strength, beyond_ids=0.001 * (-1) ** seed + BEYOND_IDS * bool(at))
            found.append(read_trial(case, seed, folder))
    return found


@pytest.fixture(name="trials", scope="module")
def trials_fixture(tmp_path_factory):
    """Read only."""
    return trials_of(tmp_path_factory.mktemp("runs"))


def rows(lines, first):
    """By the first cell, the others, of the table whose head begins with `first`."""
    start = next(at for at, line in enumerate(lines) if line.startswith(f"| {first} |"))
    found = {}
    for line in lines[start + 2 :]:
        if not line.startswith("|"):
            break
        name, *cells = line.strip("| ").split(" | ")
        found[name] = cells
    return found


def test_what_is_planted_predicts_what_is_not_is_not_called_and_what_cases_do_falls_out(trials):
    found = rows(routing_tables(STUDY, trials), "task")
    assert list(found) == list(TASKS)
    assert found["depo"][0] == "exact match" and found["depo"][4].startswith("+1.00 (") and found["depo"][6].startswith("+")
    assert found["depo"][5] == found["depo"][7] == "predicts a higher score"
    assert found["lano"][0] == "minus KL" and found["lano"][5] == found["lano"][7] == "goes with a lower score"
    assert found["mano"][5] == found["mano"][7] == "nothing that 24 runs resolve"
    assert found["brevo"][5] == "predicts a higher score" and found["brevo"][7] == "nothing that 24 runs resolve"
    assert found["scrambled"][5] == found["scrambled"][7] == "no two figures differ, or too few runs"
    assert found["depo"][1] == f"{np.mean([(4 * at + seed) / 32 for at in range(6) for seed in range(1, 5)]):.3f} ± 0.221"
    assert found["depo"][3] == "23 of 24 runs"  # the first is not above its control


def test_a_case_is_called_specialised_only_where_more_than_its_ids_tell_and_seeds_resolve_it(trials):
    found = rows(routing_tables(STUDY, trials), "case")
    assert [cells[-1] for cells in found.values()] == [
        "by the token's id, as far as these seeds resolve", *["specialised by task"] * 5,
    ]  # fmt: skip
    few = rows(routing_tables(STUDY, [trial for trial in trials if trial.seed < 3]), "case")
    assert {cells[-1] for cells in few.values()} == {"n = 2: a verdict takes 3 seeds"}
    of_tasks = rows(routing_tables(STUDY, [trial for trial in trials if trial.seed < 3]), "task")
    assert of_tasks["depo"][7] == "2 seeds a case: a verdict takes 3"
    two = rows(routing_tables(STUDY, [trial for trial in trials if trial.case in ("none", "some")]), "task")
    assert two["depo"][5] == "2 cases: a verdict takes 3"


def test_the_figures_of_a_case_are_those_of_its_inspections(trials):
    most = [trial.routing for trial in trials if trial.case == "most"]
    cells = rows(routing_tables(STUDY, trials), "case")["most"]
    beyond = [np.mean([task.specialisation for task in one.tasks.values()]) for one in most]
    told, shuffled = (np.mean([[getattr(layer, key) for layer in one.layers] for one in most]) for key in ("told", "shuffled"))
    assert cells[0] == "4" and cells[1].startswith(f"{told:.4f} ± ") and cells[2].startswith(f"{shuffled:.4f} ± ")
    assert cells[3].startswith(f"{np.mean(beyond):+.4f} (") and cells[4].startswith(f"{BEYOND_IDS:+.4f} (")
    called = [4 * sum(task.specialisation > 0.1999 for task in one.tasks.values()) for one in most]
    assert [one.called for one in most] == called
    assert cells[5] == f"{np.mean(called):.1f} of 64 ({min(called)} to {max(called)})"
    assert cells[6].startswith("+0.3000") and cells[7].startswith("+0.1000") and cells[8].startswith("+0.2000 (")


def test_numbers_of_a_run_are_in_study_json_and_only_of_a_study_that_looks_inside(trials, tmp_path):
    verdicts = {(trial.case, trial.seed): [] for trial in trials}
    *_, numbers = write_study(STUDY, trials, tmp_path / "inside", verdicts)
    first = json.loads(numbers.read_text())["trials"][0]["routing"]
    assert first["tasks"]["depo"]["score"] == 1 / 32 and first["experts"] == 64
    *_, numbers = write_study(replace(STUDY, figure="cost"), trials, tmp_path / "outside", verdicts)
    assert "routing" not in json.loads(numbers.read_text())["trials"][0]
    assert "told of the task" not in study_table(replace(STUDY, figure="cost"), trials, verdicts)


def test_the_figure_has_a_panel_a_task_with_a_dot_a_run_and_one_by_layer(trials):
    fig = draw_routing(STUDY, cases_of(STUDY, trials))
    panels = {ax.get_title(loc="left").partition(":")[0]: ax for ax in fig.axes if ax.get_visible()}
    assert list(panels) == ["told of the task (dotted", *TASKS]
    dots = {(float(x), float(y)) for line in panels["depo"].lines for x, y in zip(*line.get_data())}
    assert dots == {(one.specialisation, one.score) for trial in trials if (one := trial.routing.tasks["depo"])}
    title = panels["depo"].get_title(loc="left")
    assert title == "depo: +1.00*, within +1.00*" and "*" not in panels["mano"].get_title(loc="left")
    assert panels["lano"].get_ylabel() == "minus KL, nats" and panels["mano"].get_ylabel() == "exact match"
    lines = [line for line in panels["told of the task (dotted"].lines if line.get_linestyle() != "None"]
    assert len(lines) == 2 * len(CASES) and all(list(line.get_xdata()) == [0, 1, 2, 3] for line in lines)
    assert [line.get_label() for line in lines[::2]] == list(CASES)
    shuffled = [trial.routing.layers[0].shuffled for trial in trials if trial.case == "most"]
    assert list(lines[-1].get_ydata()) == pytest.approx([np.mean(shuffled)] * 4)


def test_published_inspections_are_small_and_table_and_figure_are_drawn_again_from_them(trials, tmp_path):
    verdicts = {(trial.case, trial.seed): [] for trial in trials}
    out, asked = tmp_path / "out" / "example", {trial.case: stored_plan_hash(trial.plan) for trial in trials}
    drawn = publish(STUDY, trials, out, verdicts)
    before = {path: path.read_bytes() for path in drawn}
    study, copies = read_folder(out)
    assert study_problems(study, copies, asked) == [] and imread(drawn[1]).shape[1] == 880
    kept = out / "most" / "1" / "inspect.json"
    assert not list(out.rglob("weights.safetensors")) and not (out / "most" / "1" / "inspect").exists()
    assert "lens" not in json.loads(kept.read_text()) and (out / "most" / "1" / "evaluations.json.xz").exists()
    write_study(study, copies, out, verdicts)
    assert {path: path.read_bytes() for path in before} == before

    content = kept.read_text()
    kept.write_text(content.replace('"information":', '"information":1', 1))
    (problem,) = study_problems(study, read_folder(out)[1], asked)
    assert "inspect.json" in problem
    kept.unlink()
    (problem,) = study_problems(study, read_folder(out)[1], asked)
    assert problem == f"{out / 'most' / '1'}: it has no inspect.json"
    assert study_problems(replace(study, figure="cost"), read_folder(out)[1], asked) == []


def test_runs_that_were_not_looked_into_are_named_and_left_out(trials, tmp_path):
    without = trials_of(tmp_path, seeds=1, inspected=False)
    text = "\n".join(routing_tables(STUDY, without))
    assert text.strip() == f"Not looked into: {', '.join(f'{case} seed 1' for case in CASES)}."
    assert draw_routing(STUDY, cases_of(STUDY, without)).axes[0].get_title(loc="left") == "no run was looked into"
    mixed = [*without[:1], *(trial for trial in trials if trial.case != "none")]
    assert "Not looked into: none seed 1." in "\n".join(routing_tables(STUDY, mixed))
    assert list(rows(routing_tables(STUDY, mixed), "case")) == list(CASES)[1:]


def test_seeds_that_a_folder_lacks_are_named_with_what_makes_them(trials, tmp_path, capsys, monkeypatch):
    out = tmp_path / "example"
    publish(STUDY, trials, out, {(trial.case, trial.seed): [] for trial in trials})
    monkeypatch.setattr(study_folder, "write_study", lambda *_: pytest.fail("it was drawn"))
    assert main(["study", "--from", str(out), "seeds=1,2,3,4,5"]) == 2
    said = capsys.readouterr().err
    assert "has no runs of seeds 1,2,3,4,5: none has 1, 2, 3, 4; few has" in said
    assert f"make study NAME=example SEEDS=1,2,3,4,5 OUT={out}" in said
    assert main(["study", "--from", str(out), "seeds=1,2"]) == 2
    assert "has seeds 3, 4 too" in capsys.readouterr().err
