"""A track of tasks is scored in bits per answer, and nobody who reads or prints its figures says bits per byte."""

import re
from dataclasses import replace

import micro
import pytest
from matplotlib.text import Text
from report_factory import write_run
from study_factory import trial
from test_report_gate import a_baseline, a_probe

import harness.verbs.probe as probe
import harness.verbs.prove as prove
from harness.__main__ import main
from harness.doctor.thresholds import thresholds_text
from harness.plan.goal import levels
from harness.plan.lanes import read_track
from harness.plan.study import FIGURES, Study
from harness.plan.track import Line, Milestone, of_uniform
from harness.report import style
from harness.report.board.gather import gather
from harness.report.board.publish import publish
from harness.report.compare.matrix_figure import draw_matrix
from harness.report.compare.paired import paired_table
from harness.report.gate import baseline as gate_baseline
from harness.report.gate import verdict as gate
from harness.report.gate.verdict import Evidence
from harness.report.groups import Group
from harness.report.run_data import Target, load_run
from harness.report.study.folder import write_study

TASKS = {"track": "physics", "of_tasks": True, "steps": 128, "validations": (96,)}
DENSE = {"lane": "physics-dense", "twin": "physics-moe-16e", "experts": 0}
MOE = {"lane": "physics-moe-16e", "twin": "physics-dense"}


def of_bytes(text: str) -> list[str]:
    """The lines that say bits per byte; files, detectors and figures of a record are called what they are called."""
    for name in ("bpb.png", "loss and bpb"):
        text = text.replace(name, "")
    return [line for line in text.splitlines() if re.search(r"\bbpb\b|bits per byte|nats per token", line, re.IGNORECASE)]


@pytest.fixture(name="drawn")
def drawn_fixture(monkeypatch):
    """All that figures say, by a call."""
    figures, save = [], style.save
    monkeypatch.setattr(style, "save", lambda fig, path: figures.append(fig) or save(fig, path))
    return lambda: "\n".join(text.get_text() for fig in figures for text in fig.findobj(Text))


def runs(home, seeds=(1, 2, 3), **words):
    name, offset = words["lane"] + words.get("precision", ""), words.pop("offset", 0.0)
    folders = [write_run(home / f"{name}-{seed}", seed=seed, offset=offset + 0.003 * seed, **TASKS | words) for seed in seeds]
    return Group(tuple(map(load_run, folders)))


def test_compare_heads_its_rankings_with_bits_per_answer(tmp_path, capsys, drawn):
    for name, words in (("a", DENSE), ("b", MOE)):
        runs(tmp_path / name, **words)
    assert main(["compare", str(tmp_path / "a"), str(tmp_path / "b"), "--out", str(tmp_path / "out")]) == 0
    said = capsys.readouterr().out
    assert "Slice bits/answer under each fairness contract" in said and of_bytes(said) == []
    assert "bits per answer" in drawn() and of_bytes(drawn()) == []
    assert of_bytes("".join(path.read_text() for path in (tmp_path / "out").glob("*.md"))) == []


def test_formats_are_paired_in_bits_per_answer(tmp_path, drawn):
    low = {"lane": "physics-dense-fp8", "precision": "fp8", "twin": "physics-dense", "experts": 0}
    groups = [runs(tmp_path, **DENSE), runs(tmp_path, **low, offset=0.01)]
    table = paired_table(groups)
    assert "bits per answer of val" in table and "in % of the bits per answer of bf16" in table and of_bytes(table) == []
    draw_matrix(groups, tmp_path / "matrix.png")
    assert "bits per answer: minus bf16" in drawn() and of_bytes(drawn()) == []


@pytest.mark.parametrize("figure", sorted({*FIGURES} - {"parts", "race"}))  # of tasks there are no sources, no open lane
def test_a_study_says_bits_per_answer_in_figure_and_table(tmp_path, figure, drawn):
    trials = [
        trial(tmp_path, case, lane=MOE["lane"], reasons=("a partial budget",), **TASKS)
        for case in ("one", "one-dial-20", "two", "two-dial-20")
    ]
    for number, one in enumerate(trials):
        one.plan["batch"]["tokens_per_step"] = 4096 * (1 + number)
    cases = {one.case: f"batch.tokens_per_step={one.plan['batch']['tokens_per_step']}" for one in trials}
    asked = Study(
        "example", "an example", "Q?", MOE["lane"], figure, cases, axis="batch.tokens_per_step", families=["one", "two"]
    )
    table, _, _ = write_study(asked, trials, tmp_path / "out", {(one.case, 1): [] for one in trials})
    said = table.read_text()
    assert "What a dial changes of bits per answer of val" in said and "answers." in said and of_bytes(said) == []
    assert of_bytes(drawn()) == [] and ("bits per answer" in drawn() or figure in ("tasks", "routing", "damage"))


def test_a_leaderboard_says_bits_per_answer_of_its_board_and_both_units_of_several(tmp_path):
    runs(tmp_path / "runs", **MOE, execution="emulated", precision="nvfp4")
    runs(tmp_path / "runs", **DENSE)
    said = board_of(tmp_path)
    assert "emulated formats: bits per answer only" in said and "mean bits per answer of all of val" in said
    assert re.search(r"\d bits/answer", said) and of_bytes(said) == []
    write_run(tmp_path / "runs" / "tiny", experts=0, lane="tiny-dense", twin=None)
    said = board_of(tmp_path)
    assert "mean bits per byte or bits per answer of all of val" in said and "bits per answer of all of val" in said
    assert "MEASURE" not in said


def board_of(home):
    publish(gather([home / "runs"]), home / "out")
    return "".join((home / "out" / name).read_text() for name in ("LEADERBOARD.md", "index.html"))


def test_the_gate_judges_in_bits_per_answer(tmp_path):
    for seed in (1, 2, 3, 4):
        write_run(tmp_path / str(seed), seed=seed, offset=0.003 * seed, **TASKS | MOE)
    of_seeds, probes = [load_run(tmp_path / str(seed)) for seed in (1, 2, 3)], [a_probe(300), a_probe(301)]
    made = gate_baseline.updated(a_baseline({}), of_seeds, probes, "first", "2026-01-02")
    outcomes = gate.judge(Evidence(load_run(tmp_path / "4"), next(iter(made.plans.values())), probes=[a_probe(all=8.5)]))
    said = "\n".join(str(one) for one in outcomes)
    assert "a uniform model scores 8.500000 bits per answer (all)" in said and of_bytes(said) == []
    assert "bits per answer on every token but the first" in said
    worse = load_run(write_run(tmp_path / "5", seed=5, offset=0.5, **TASKS | MOE))
    outcome = gate.loss_and_bpb(Evidence(worse, next(iter(made.plans.values()))))
    assert any(re.search(r"[\d.]+ bits/answer, seeds give", reason) for reason in outcome.reasons)


def test_what_a_model_that_knows_nothing_is_scored_in_is_that_of_the_scorers_check():
    assert [of_uniform(name) for name in ("", "tasks", "gpt2")] == ["bits per byte", "bits per answer", "bits per token"]


def test_prove_and_probe_name_the_unit_of_the_track(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(prove, "_untouched", lambda words, folder, launch: write_run(folder, **TASKS | DENSE) / "record.json")
    assert main(["prove", *micro.TASKS, "kills=0", f"run.folder={tmp_path}"]) == 0
    said = capsys.readouterr().out
    head, *rows = [line for line in said.splitlines() if "slice bits/answer" in line or line.startswith("  first run")]
    assert re.search(r"\d\.\d{6}", rows[0]).start() == head.index("slice bits/answer") and of_bytes(said) == []
    monkeypatch.setattr(probe, "probe", lambda plan: a_probe())
    assert main(["probe", *micro.TASKS]) == 0
    assert "8.0000000 bits per answer, 8 expected" in capsys.readouterr().out


@pytest.mark.parametrize("track, bits, nats", [("physics", "bits/answer", "answer"), ("tiny", "bpb", "token")])
def test_a_target_is_in_the_units_of_its_track(track, bits, nats):
    made = replace(
        read_track(track), lines={"a": Line("a", 1.0, 1.0)}, milestones={"b": Milestone("b", "slice_loss", 1.0, "a paper")}
    )
    found = levels(made)
    assert (found["a"].unit, found["b"].unit) == (bits, f"nats per {nats}")
    units = [Target("a", "a", metric, 1.0, made.tokens.format).unit for metric in ("slice_bpb", "slice_loss")]
    assert units == [f"{made.measure} of the slice", f"nats per {nats} of the slice"]


def test_the_doctors_bound_on_meaning_is_of_answers_too():
    assert "per answer" in thresholds_text()
