"""Verify: evidence finds edits, re-execution finds forgeries, and the verdict says which of the two was done."""

import contextlib
import io
import json
import shutil
import subprocess
import sys
from dataclasses import replace
from functools import reduce
from pathlib import Path

import micro
import pytest
import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser
from micro import finished_fixture  # noqa: F401
from report_factory import edit_record

import harness.record.provenance
from harness.__main__ import main
from harness.files import file_sha256
from harness.launch import reexecute, worktree
from harness.plan.compose import compose
from harness.plan.fingerprint import stored_plan_hash
from harness.plan.schema import Run
from harness.plan.stored import read_plan
from harness.record.record import content_hash
from harness.report.run_data import load_run
from harness.revision import REVISION
from harness.verbs.verify import _note

pytestmark = pytest.mark.slow

NO_TORCH = "import sys; from harness.__main__ import main; assert main(sys.argv[1:]) == 0; assert 'torch' not in sys.modules"


@pytest.fixture
def copy(finished, tmp_path):
    return shutil.copytree(finished(), tmp_path / "tiny-moe-16e" / "1-copy")


@pytest.fixture(scope="module")
def made():
    """Re-executions by command: the same one gives the same bits, so each is run once."""
    return {}


@pytest.fixture
def quick(monkeypatch, no_figures, made, tmp_path_factory):
    """Re-executions in this process: a new one imports torch for longer than it trains a micro lane. Gives their commands."""
    commands = []

    def here(command, tree, environment):
        commands.append(command)
        (home,) = [OverridesParser.create().parse_override(w).value() for w in command if w.startswith("run.folder=")]
        words = [word for word in command if not word.startswith("run.folder=")]
        if tuple(words) not in made:
            made[tuple(words)] = kept = tmp_path_factory.mktemp("re-executed") / "runs"
            with contextlib.redirect_stdout(io.StringIO()):
                assert main([*words, f"run.folder={kept}"]) == 0
        shutil.copytree(made[tuple(words)], home)
        return ""

    monkeypatch.setattr(reexecute, "_watched", here)
    return commands


no_figures_fixture = micro.no_figures_fixture


def spoken(capsys):
    """What was printed, on one line: a verdict is wrapped, and where depends on the length of its paths."""
    return " ".join(capsys.readouterr().out.split())


def rewrite(folder, change, **identity):
    """Changes the rows and signs everything again, as a forger would."""
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(change(row)) + "\n" for row in rows))
    stated = json.loads((folder / "identity.json").read_text()) | identity
    (folder / "identity.json").write_text(json.dumps(stated))
    record = micro.record_json(folder) | {key: value for key, value in identity.items() if key == "hardware_class"}
    for name in record["artifacts"]:
        record["artifacts"][name]["sha256"] = file_sha256(folder / name)
    record["content_sha256"] = content_hash(record)
    (folder / "record.json").write_text(json.dumps(record))


def scale_losses(by, since=1, chain=lambda old: old):
    def change(row):
        if row["kind"] == "step" and row["step"] >= since:
            row["loss"] *= by
        if row["kind"] == "window":
            row["chain"] = chain(row["chain"])
        return row

    return change


def verdict(folder):
    return json.loads((folder / "verify.json").read_text())


@pytest.mark.process
def test_the_evidence_alone_answers_without_torch_and_says_what_it_cannot_see(copy):
    done = micro.python(NO_TORCH, "verify", str(copy), "steps=0")
    assert done.returncode == 0, done.stderr
    assert "evidence only" in done.stdout and "only steps=all would find" in done.stdout
    assert verdict(copy)["verdict"] == "evidence whole" and len(verdict(copy)["not_covered"]) == 3


@pytest.mark.slow
def test_an_honest_record_has_equal_bits_and_the_verdict_says_of_how_many_steps(copy, quick, capsys, monkeypatch):
    monkeypatch.setattr(harness.record.provenance, "commit", lambda: ("c0ffee" * 5, False))
    assert main(["verify", str(copy)]) == 0
    said = capsys.readouterr().out
    assert "re-execution of 16 of 32 steps" in said and "verdict   equal bits" in said and "params_total" in said
    written = verdict(copy)
    assert (
        written["passed"]
        and written["execution"]["difference"] is None
        and written["not_covered"][0].startswith("after step 16")
    )
    assert all(written["execution"]["same"].values())
    again = load_run(copy).verified
    assert (again.steps, again.of, again.commit) == (16, 32, written["execution"]["commit"])
    edit_record(copy, seed=7)
    assert load_run(copy).verified is None  # it is of another record


def test_code_with_changes_is_no_commit_that_has_had_the_bits(copy, monkeypatch):
    report = {"execution": {"commit": "c0ffee", "steps": 4, "of": 32}, "verified_at": "2026-01-02T03:04:05+00:00", "notes": []}
    monkeypatch.setattr(harness.record.provenance, "commit", lambda: ("c0ffee", True))
    _note(copy, report)
    assert not (copy / "verified.json").exists() and "uncommitted changes" in report["notes"][0]
    # a clean checkout of that commit ran it, beside a tree with changes
    monkeypatch.setattr(harness.record.provenance, "commit", lambda: ("another", True))
    _note(copy, report)
    assert load_run(copy).verified.commit == "c0ffee"


def test_a_record_of_an_earlier_revision_is_only_had_again_at_its_own_commit(copy, quick, capsys):
    rewrite(copy, lambda row: row, hardware_class="cpu, python 3.11")
    assert main(["verify", str(copy)]) == 1
    assert "of revision 1 of the arithmetic" in spoken(capsys) and "commit=record" in verdict(copy)["problems"][0]
    assert not quick and main(["verify", str(copy), "steps=0"]) == 0


def test_an_edited_figure_is_found_by_the_evidence_and_nothing_is_run(copy, quick, capsys):
    edit_record(copy, metrics__val_bpb=1.2)
    assert main(["verify", str(copy)]) == 1
    assert "metrics.val_bpb is 1.2" in spoken(capsys) and not quick


def test_a_count_that_the_plan_does_not_build_is_found(copy, quick, capsys):
    record = micro.record_json(copy)
    edit_record(copy, counts__params_total=record["counts"]["params_total"] - 1)
    assert main(["verify", str(copy)]) == 1
    assert "counts.params_total is" in spoken(capsys)


def test_data_of_another_hash_is_found_against_the_track_file(copy, capsys):
    edit_record(copy, data__val_sha256="00" * 32)
    assert main(["verify", str(copy), "steps=0"]) == 1
    assert "tiny.yaml says" in spoken(capsys)


def test_a_signed_forgery_of_the_losses_passes_the_evidence_and_fails_re_execution(copy, quick, capsys):
    rewrite(copy, scale_losses(0.97))
    assert main(["verify", str(copy), "steps=0"]) == 0
    assert main(["verify", str(copy)]) == 1
    assert verdict(copy)["verdict"] == "not verified" and "step 1:" in verdict(copy)["execution"]["difference"]


@pytest.mark.parametrize("by", [0.97, 1 + 1e-6])
def test_where_bits_are_promised_only_equal_bits_pass(copy, quick, capsys, by):
    """A forged chain too: nothing in the record contradicts itself, and one millionth is well within any tolerance."""
    flip = scale_losses(by, chain=lambda old: old[::-1])
    rewrite(copy, flip)
    edit_record(copy, determinism__chain=micro.record_json(copy)["determinism"]["chain"][::-1])
    assert main(["verify", str(copy), "steps=0"]) == 0
    assert main(["verify", str(copy)]) == 1
    assert "same hardware class, source and versions, but other bits: step 1" in spoken(capsys)


def test_rounding_of_another_hardware_class_is_within_tolerance(copy, quick, capsys):
    rewrite(copy, scale_losses(1 + 1e-5, chain=lambda old: old[::-1]), hardware_class=f"another, revision {REVISION}")
    edit_record(copy, determinism__chain=micro.record_json(copy)["determinism"]["chain"][::-1])
    assert main(["verify", str(copy)]) == 0
    said = capsys.readouterr().out
    assert "verdict   equal within tolerance" in said and "another hardware class" in said and "1.0e-05" in said


def test_beyond_tolerance_without_three_seeds_nothing_is_verified(copy, quick, capsys):
    rewrite(copy, scale_losses(0.9, chain=lambda old: old[::-1]), hardware_class=f"another, revision {REVISION}")
    edit_record(copy, determinism__chain=micro.record_json(copy)["determinism"]["chain"][::-1])
    assert main(["verify", str(copy)]) == 1
    assert "1 recorded seeds of this plan beside it, 3 are needed" in spoken(capsys) and len(quick) == 2
    assert "seed=2" in quick[1]


@pytest.mark.slow
def test_an_edit_after_the_executed_steps_is_found_by_executing_all(copy, quick, capsys):
    rewrite(copy, scale_losses(0.97, since=30))
    assert main(["verify", str(copy)]) == 0
    assert main(["verify", str(copy), "steps=all"]) == 1
    assert "step 30" in spoken(capsys)
    assert verdict(copy)["not_covered"] == ["seconds, whose the processors were, peak memory and the machine's measured peaks"]


@pytest.mark.slow
def test_final_weights_of_another_hash_are_found_by_executing_all(copy, quick, capsys):
    edit_record(copy, determinism__weights="00" * 32)
    assert main(["verify", str(copy), "steps=all"]) == 1
    assert "determinism.weights is another" in spoken(capsys)


@pytest.mark.slow
def test_the_metrics_of_another_seed_are_found(copy, quick, tmp_path, capsys):
    other = micro.run(tmp_path / "other", "seed=2")
    shutil.copy(other / "metrics.jsonl", copy)
    theirs = micro.record_json(other)
    kept = ("seed", "provenance", "artifacts", "content_sha256")
    record = theirs | {key: value for key, value in micro.record_json(copy).items() if key in kept}
    (copy / "record.json").write_text(json.dumps(record))
    rewrite(copy, lambda row: row)
    (copy / "weights.safetensors").unlink()
    assert main(["verify", str(copy), "steps=0"]) == 0, capsys.readouterr().out
    assert main(["verify", str(copy)]) == 1


def replan(folder, **changed):
    """Another plan.yaml (section__key=value; None removes the key) with every hash made to fit, as a forger would."""
    plan = yaml.safe_load((folder / "plan.yaml").read_text())
    for key, value in changed.items():
        *path, name = key.split("__")
        section = reduce(lambda node, part: node.setdefault(part, {}), path, plan)
        section[name] = value
        if value is None:
            del section[name]
    (folder / "plan.yaml").write_text(yaml.safe_dump(plan, sort_keys=False))
    edit_record(folder, plan_hash=stored_plan_hash(plan))
    rewrite(folder, lambda row: row, plan_hash=stored_plan_hash(plan))


@pytest.mark.parametrize(
    "key, value, said",
    [
        ("model__top", "${oc.env:HOME}", "model.top"),
        ("data__shards", "${oc.env:HOME}", "is computed when it is read"),
        ("hydra__searchpath", ["file:///tmp"], "hydra"),
        ("model___target_", "os.system", "_target_"),
        ("optim__muon__lr", {"_target_": "os.system"}, "optim.muon.lr"),
        ("lane__name", "tiny-dense --multirun", "tiny-dense --multirun"),
    ],
)
def test_a_plan_that_says_more_than_the_schema_knows_is_never_run(copy, quick, capsys, key, value, said):
    """Whoever wrote the record also made its hashes fit."""
    replan(copy, **{key: value})
    if key == "lane__name":
        edit_record(copy, lane=value)
    assert main(["verify", str(copy)]) == 1
    printed = spoken(capsys)
    assert said in printed and str(Path.home()) not in printed and not quick


def test_the_words_that_a_record_states_are_not_run(copy, quick, capsys):
    """They are what somebody typed, for people to read; what is run is the plan."""
    words = ["--multirun", "+hydra.callbacks.x={_target_: os.system, _args_: [false]}", "optim.muon.lr=0.01"]
    edit_record(copy, provenance__overrides=words)
    assert main(["verify", str(copy)]) == 0, capsys.readouterr().out
    (command,) = quick
    assert not set(words) & set(command) and not any("hydra" in word for word in command)
    assert compose([word for word in command[4:] if not word.startswith("run.")]).plan == replace(
        read_plan(copy / "plan.yaml"), run=Run()
    )


def test_a_plan_that_this_checkout_makes_otherwise_is_explained_key_by_key(copy, quick, capsys):
    replan(copy, unranked=False)
    assert main(["verify", str(copy)]) == 1
    said = spoken(capsys)
    assert "freezes" in said and "commit=record" in said and not quick


def test_a_commit_that_is_not_here_is_a_clear_error(copy, capsys):
    edit_record(copy, provenance__commit="deadbeef" * 5)
    assert main(["verify", str(copy), "commit=record"]) == 1
    assert f"unknown commit, branch or tag '{'deadbeef' * 5}'" in spoken(capsys)


def test_several_records_get_a_line_each_and_one_bad_one_fails_them_all(copy, capsys):
    shutil.copytree(copy, copy.parent / "2-cut")
    (copy.parent / "2-cut" / "record.json").write_text("{")
    assert main(["verify", str(copy.parent), "steps=0"]) == 1
    good, bad, count = capsys.readouterr().out.splitlines()
    assert good.startswith("evidence whole") and bad.startswith("not verified") and "truncated or corrupt" in bad
    assert count.startswith("1 of 2 records pass")


def test_the_fork_of_another_run_is_not_re_executed(copy, capsys):
    edit_record(copy, fork="runs/a@8", ranked=False, unranked_reasons=["forked"])
    assert main(["verify", str(copy)]) == 1
    assert "forked from runs/a@8" in spoken(capsys)


@pytest.mark.parametrize(
    "words, said",
    [([], "no folder is named"), (["nowhere"], "nowhere is no folder"), ([".", "step=4"], "did you mean steps?"),
     ([".", "steps=-1"], "steps=-1"), ([".", "commit=HEAD"], "commit=HEAD")],
)  # fmt: skip
def test_bad_arguments_are_explained(words, said, capsys):
    assert main(["verify", *words]) == 2
    assert said in capsys.readouterr().err


def test_a_worktree_holds_the_commit_and_leaves_nothing_behind(tmp_path, monkeypatch):
    def git(*words):
        who = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
        return subprocess.run(["git", "-C", str(tmp_path), *who, *words], check=True, capture_output=True, text=True).stdout

    git("init", "-q")
    for content in ("first", "second"):
        (tmp_path / "file").write_text(content)
        git("add", "file")
        git("commit", "-q", "-m", content)
    monkeypatch.setattr(worktree, "ROOT", tmp_path)
    with worktree.worktree("HEAD~1") as there:
        assert (there.root / "file").read_text() == "first"
    assert not there.root.exists() and len(git("worktree", "list").splitlines()) == 1


@pytest.mark.process
def test_a_real_re_execution_runs_in_a_process_of_its_own(copy):
    """With the recorded number of threads, whatever this process has."""
    done = subprocess.run(
        [sys.executable, "-m", "harness", "verify", str(copy)], capture_output=True, text=True, cwd=micro.ROOT
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert verdict(copy)["verdict"] == "equal bits"
