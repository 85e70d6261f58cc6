"""Replay: a record's plan is run again as a run of its own, beside the record; what cannot be is refused by name."""

import json
import shutil
from pathlib import Path

import micro
import pytest
import yaml
from micro import finished_fixture  # noqa: F401
from report_factory import edit_record, sign, write_run

from harness.__main__ import main
from harness.errors import UserError
from harness.launch import child, replay
from harness.launch.replay import recorded_beside, records_at, replays, short_words
from harness.plan.compose import compose
from harness.plan.fingerprint import plan_hash, stored_plan_hash
from harness.report.board.claims import claim_name, record_sha256
from harness.report.run_data import load_run
from harness.report.verify.replayed import Beside, line, sentences, told
from harness.revision import REVISION

no_figures_fixture = micro.no_figures_fixture
CLASS = f"cpu, revision {REVISION}"


@pytest.fixture(name="seeds")
def seeds_fixture(tmp_path) -> Path:
    """Three recorded seeds of a plan."""
    for seed in (1, 2, 3):
        write_run(tmp_path / "results/tiny-dense" / f"{seed}-a", seed=seed, lane="tiny-dense", experts=0, hardware_class=CLASS,
                  offset=0.002 * seed, step_s=0.25 + 0.002 * seed, taken=0.001)  # fmt: skip
    return tmp_path / "results/tiny-dense"


@pytest.fixture(name="copy")
def copy_fixture(finished, tmp_path) -> Path:
    """A run of a micro lane that may be damaged, and composes."""
    return shutil.copytree(finished(), tmp_path / "results/tiny-moe-16e/1-copy")


@pytest.fixture(name="nothing_runs")
def nothing_runs_fixture(monkeypatch) -> list[list[str]]:
    started: list[list[str]] = []
    monkeypatch.setattr(child, "run", lambda words, **_: started.append(words))
    return started


def error_of(capsys) -> str:
    return " ".join(capsys.readouterr().err.split())


def claim_of(folder: Path) -> Path:
    records = {path.name: record_sha256(path) for path in sorted(folder.iterdir()) if path.name != "3-a"}
    record = load_run(folder / "1-a").record
    path = folder / claim_name(record.plan_hash, record.speed_class)
    path.write_text(json.dumps({
        "schema_version": 1, "lane": "tiny-dense", "track": "tiny", "plan_hash": record.plan_hash, "stop_step": 384,
        "hardware_class": record.speed_class, "seeds": [1, 2], "records": records, "failed_seeds": {}, "submissions": [],
        "tuning_trials": {"found": 0, "declared": 0}, "replaced": [],
    }))  # fmt: skip
    return path


def test_a_path_names_a_record_a_claim_or_a_folder_of_records(seeds):
    def named(path: Path) -> list[int]:
        return [run.record.seed for run in records_at(path)]

    assert named(seeds / "2-a") == named(seeds / "2-a/record.json") == [2]
    assert named(claim_of(seeds)) == [1, 2] and named(seeds.parent) == [1, 2, 3]


@pytest.mark.parametrize("name, said", [("nowhere", "does not exist"), ("plan.txt", "is no record"), ("", "none lies below")])
def test_what_is_no_record_is_refused_with_what_to_name(tmp_path, name, said):
    (tmp_path / "plan.txt").touch()
    with pytest.raises(UserError, match=said) as refused:
        records_at(tmp_path / name)
    assert "results/LANE/SEED-PLAN" in refused.value.remedy


def test_other_seeds_replay_each_plan_once_under_each_of_them(seeds):
    again = replays(records_at(seeds), [2, 7])
    assert [(one.seed, one.record and one.record.record.seed) for one in again] == [(2, 2), (7, None)]
    assert [one.seed for one in replays(records_at(seeds), None)] == [1, 2, 3]
    assert [run.record.seed for run in recorded_beside(load_run(seeds / "2-a"))] == [1, 2, 3]


def test_the_words_are_those_in_which_the_plan_differs_from_its_lane(copy):
    run = load_run(copy)
    words, stored = short_words(run, 5), yaml.safe_load((copy / "plan.yaml").read_text())
    plan = compose(words).plan
    assert plan_hash(plan) == stored_plan_hash(stored) and plan.seed == 5
    assert "model.width=32" in words and len(words) < 25 and not any(word.startswith("optim.") for word in words)


def signed(folder: Path) -> None:
    """With hashes that fit, and the weights of the run that the copy is of."""
    weights = json.loads((folder / "record.json").read_text())["artifacts"]["weights.safetensors"]
    sign(folder)
    record = json.loads((folder / "record.json").read_text())
    edit_record(folder, artifacts=record["artifacts"] | {"weights.safetensors": weights})


def other_plan(folder: Path, change) -> None:
    plan = yaml.safe_load((folder / "plan.yaml").read_text())
    change(plan)
    (folder / "plan.yaml").write_text(yaml.safe_dump(plan, sort_keys=False))
    identity = json.loads((folder / "identity.json").read_text()) | {"plan_hash": stored_plan_hash(plan)}
    (folder / "identity.json").write_text(json.dumps(identity))
    edit_record(folder, plan_hash=identity["plan_hash"])
    signed(folder)


REFUSED = {
    "forked": (lambda at: edit_record(at, fork="runs/a@8", ranked=False, unranked_reasons=["forked"]),
               "was forked from runs/a@8", "replay the run that it came from"),
    "revision": (lambda at: hardware(at, "cpu, python 3.11"), "is of revision 1 of the arithmetic", "commit=record"),
    "class": (lambda at: hardware(at, f"another, revision {REVISION}"), "another hardware class", "SET=class=any"),
    "edited": (lambda at: edit_record(at, metrics__val_bpb=1.2), "its evidence does not hold", "git checkout"),
    "unknown key": (lambda at: other_plan(at, lambda plan: plan["model"].update(magic=3)), "model.magic", "commit=record"),
    "frozen key": (lambda at: other_plan(at, lambda plan: plan.update(unranked=False)), "freezes", "commit=record"),
}  # fmt: skip


def hardware(folder: Path, name: str) -> None:
    identity = json.loads((folder / "identity.json").read_text()) | {"hardware_class": name}
    (folder / "identity.json").write_text(json.dumps(identity))
    edit_record(folder, hardware_class=name)
    signed(folder)


@pytest.mark.parametrize("why", REFUSED)
def test_what_cannot_be_replayed_is_refused_by_name_before_anything_runs(copy, nothing_runs, capsys, why):
    damage, said, remedy = REFUSED[why]
    damage(copy)
    assert main(["replay", str(copy)]) == 2
    told = error_of(capsys)
    assert said in told and remedy in told and str(copy) in told and not nothing_runs


@pytest.mark.parametrize(
    "words, said",
    [([], "no record is named"), (["optim.muon.lr=0.1"], "is no word of replay"), (["run.stop_after_step=3"], "no word of"),
     (["seed=1", "seeds=1,2"], "leave one of them out"), (["class=all"], "class=all")],
)  # fmt: skip
def test_words_that_would_change_the_plan_are_refused(copy, nothing_runs, capsys, words, said):
    assert main(["replay", *([str(copy)] if words else []), *words]) == 2
    assert said in error_of(capsys) and not nothing_runs


def ended(status: int, folder: Path | None) -> child.Ended:
    return child.Ended(status, f"record: {folder}/record.json\n" if folder else "left\n")


def test_the_same_plan_and_seed_give_equal_bits_in_a_run_of_their_own(copy, tmp_path, monkeypatch, no_figures, capsys):
    """In this process: a new one imports torch for longer than it trains a micro lane."""
    seen = {}

    def here(words, environment, **_):
        seen.update(environment)
        return ended(main(words), micro.the_folder(tmp_path / "runs"))

    monkeypatch.setattr(child, "run", here)
    assert main(["replay", str(copy), f"run.folder={tmp_path / 'runs'}", "run.mlflow=off"]) == 0
    said = capsys.readouterr().out
    assert "Bits: equal, chain and weights" in said and "unranked" in said and f"of {copy}" in said
    assert micro.bits(micro.the_folder(tmp_path / "runs")) == micro.bits(copy)
    assert seen == {"OMP_NUM_THREADS": str(micro.record(copy).hardware.threads)}
    assert not list((tmp_path / "runs").glob("replay-*.json"))


@pytest.fixture(name="replayable")
def replayable_fixture(seeds, monkeypatch):
    """The synthetic records as if their plans composed, and child processes that leave copies of them: {seed: exit status}."""
    statuses, ran = {}, []

    def run(words, **_):
        seed = int(next(word for word in words if word.startswith("seed=")).partition("=")[2])
        ran.append(seed)
        status = statuses.get(seed, 0)
        if isinstance(status, BaseException):
            raise status
        return ended(status, None if status else seeds / f"{seed}-a")

    monkeypatch.setattr(replay, "_refuse", lambda *_: None)
    monkeypatch.setattr(replay, "short_words", lambda run, seed: [f"seed={seed}"])
    monkeypatch.setattr(child, "run", run)
    return statuses, ran


def test_an_interrupted_replay_of_a_claim_goes_on_with_what_is_left(seeds, replayable, tmp_path, capsys):
    statuses, ran = replayable
    statuses[2] = KeyboardInterrupt()
    command = ["replay", str(claim_of(seeds)), f"run.folder={tmp_path}/runs"]
    (tmp_path / "runs").mkdir()
    assert main(command) == 130 and ran == [1, 2]
    statuses.clear()
    assert main(command) == 0 and ran == [1, 2, 2] and "2 of 2 replays have the bits" in capsys.readouterr().out
    assert main(command) == 0 and ran[3:] == [1, 2]


def test_a_replay_that_health_stops_costs_none_of_the_others_and_one_that_cannot_start_ends_all(seeds, replayable, capsys):
    statuses, ran = replayable
    statuses[1] = 3
    assert main(["replay", str(seeds), f"run.folder={seeds.parent}"]) == 3 and ran == [1, 2, 3]
    statuses[1] = 2
    assert main(["replay", str(seeds), f"run.folder={seeds.parent}"]) == 2 and ran[3:] == [1]


def beside(seeds: Path, seed: int = 1, of: int | None = None, **about) -> Beside:
    """A replay under `seed`, of a recorded one where `of` says so, that differs in what `about` says."""
    made = {"lane": "tiny-dense", "experts": 0, "hardware_class": CLASS, "offset": 0.002 * seed, "step_s": 0.25 + 0.002 * seed,
            "taken": 0.001, "seed": seed} | about  # fmt: skip
    ours = load_run(write_run(seeds.parents[1] / "runs" / str(seed), **made))
    recorded = recorded_beside(load_run(seeds / "1-a"))
    return Beside(ours, next((run for run in recorded if run.record.seed == of), None), recorded)


def test_equal_bits_are_said_with_seconds_and_whose_machine_it_was(seeds):
    bits, seconds, predicted, rank = sentences(beside(seeds, of=1, step_s=0.254))
    assert bits == "Bits: equal, chain and weights." and "(0.8%) more of training than the record" in seconds
    assert "others took 0.1% of the replay's processor time" in seconds and "training 97.5 s is inside" in predicted
    assert "ranked: make submit RUN=" in rank


def test_other_bits_fail_where_nothing_that_they_depend_on_differs(seeds):
    found = beside(seeds, of=1)
    edit_record(found.replay.folder, determinism__weights="ab" * 32)
    other = Beside(load_run(found.replay.folder), found.record, found.recorded)
    assert other.failed and "are the record's. First difference: the weights." in sentences(other)[0]
    assert line(other).startswith("other bits") and "weights" in told(other) and "another" in told(other)
    edit_record(found.replay.folder, provenance__source_sha256="cd" * 32)
    other = Beside(load_run(found.replay.folder), found.record, found.recorded)
    assert not other.failed and "nothing promised it: the record is of source of commit" in sentences(other)[0]


def test_another_seed_is_held_against_the_interval_of_the_recorded_ones(seeds):
    near, far = beside(seeds, seed=5, offset=0.005, step_s=0.255), beside(seeds, seed=6, offset=0.1, step_s=0.4)
    assert sentences(near)[0] == "Bits: nothing to compare with, seed 5 has no record." and not near.failed
    assert sentences(near)[2].count("inside") == 3 and sentences(far)[2].count("outside") == 3
    assert "assuming independent seeds" in sentences(near)[2] and "(n = 3)" in sentences(near)[2]


def test_fewer_than_three_seeds_predict_nothing(seeds):
    found = beside(seeds, seed=5)
    assert len(sentences(Beside(found.replay, None, found.recorded[:2]))) == 3


def test_a_machine_that_was_not_its_own_or_another_class_claims_no_seconds(seeds):
    disturbed = beside(seeds, of=1, taken=0.2)
    assert sentences(disturbed)[1].startswith("Seconds: no claim, the replay: ") and "(96.8)" in told(disturbed)
    assert len(sentences(disturbed)) == 3  # nothing is predicted of its seconds, and equal bits need no prediction
    elsewhere = beside(seeds, seed=2, of=2, hardware_class=f"gpu, revision {REVISION}")
    assert "the hardware classes differ" in sentences(elsewhere)[1] and len(sentences(elsewhere)) == 3
    assert "though nothing promised it: the record is of hardware class" in sentences(elsewhere)[0]


def test_a_replay_that_is_not_ranked_says_why(seeds):
    assert "unranked: resumed 1 time" in sentences(beside(seeds, of=1, reasons=("resumed 1 time",)))[-1]


def test_of_several_that_cannot_be_replayed_each_is_named_and_what_to_type_is_said_once(seeds, nothing_runs, capsys):
    for folder in seeds.iterdir():
        edit_record(folder, fork="runs/a@8", ranked=False, unranked_reasons=["forked"])
    assert main(["replay", str(seeds)]) == 2
    said = error_of(capsys)
    assert said.count("was forked from") == 3 and said.count("replay the run that it came from") == 1 and not nothing_runs
