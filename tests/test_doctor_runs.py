"""Doctor on runs that were broken on purpose, one a diagnosis, and on healthy ones: all of them really trained."""

import json
import shlex
import shutil
from functools import cache
from pathlib import Path

import micro
import pytest
from micro import finished_fixture, no_figures_fixture, stopped_fixture  # noqa: F401

from harness.__main__ import main
from harness.plan.compose import compose

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("no_figures")]
# A run of 32 steps is judged over 8, and health lets it be as ill as it gets.
ILL = (
    "health.window_steps=8",
    "health.collapse_load=1",
    "health.dead_share=1",
    "health.divergence_factor=100",
    "validation.steps=[]",
)
# Seeds whose runs show one trouble and no other: healthy with either optimizer; ill in the deeper layer alone.
PLAIN, DEEPER, COLLAPSING = "seed=6", "seed=17", "seed=5"
BROKEN = {
    "crowded": ("balance=none", DEEPER),
    "rushed": ("balance=none", "optim.multipliers.router=30", "budget.tokens=16384"),
    "bias": ("balance.rate=1e9",),
    "idle": ("optim.multipliers.router=0",),
    "slow": ("optim.muon.lr=1e-5",),
}
HASH = ("model.router=hash", "balance=none")


@cache
def _train(base: Path, name: str) -> Path:
    return micro.run(base / name, *ILL, *BROKEN[name])


@cache
def _hash_twin(base: Path) -> Path:
    return micro.run(base / "hash", *HASH)


@pytest.fixture
def broken(tmp_path_factory, no_figures):
    base = tmp_path_factory.getbasetemp() / "doctor"
    return lambda name: _train(base, name)


@pytest.fixture
def hash_twin(tmp_path_factory, no_figures):
    return _hash_twin(tmp_path_factory.getbasetemp() / "doctor")


def doctor(capsys, folder, *words):
    """(exit status, the JSON answer)."""
    capsys.readouterr()  # what training said
    status = main(["doctor", str(folder), "--json", *words])
    return status, json.loads(capsys.readouterr().out)


def told(capsys, folder, *words):
    capsys.readouterr()
    status = main(["doctor", str(folder), *words])
    return status, " ".join(capsys.readouterr().out.split())


def named(answer, name):
    return [finding for finding in answer["findings"] if finding["name"] == name]


def changes(finding):
    return [" ".join(command["change"]) for command in finding["tries"]]


@pytest.mark.parametrize("words", [(), ("optim=adamw",)], ids=["muon", "adamw"])
def test_a_healthy_run_is_healthy(tmp_path, capsys, words):
    status, answer = doctor(capsys, micro.run(tmp_path, "health.window_steps=8", PLAIN, *words))
    assert status == 0 and answer["healthy"] and not answer["findings"]
    assert [layer["healthy"] for layer in answer["layers"]] == [True, True]


def test_a_dense_run_has_no_router(finished, capsys):
    status, said = told(capsys, finished("dense"))
    assert status == 0 and "there is no router" in said and said.endswith("verdict healthy")


def test_a_hash_router_is_not_judged_by_its_load(hash_twin, capsys):
    status, said = told(capsys, hash_twin)
    assert status == 0 and "a hash router learns nothing" in said


def test_without_balancing_one_expert_runs_hot_and_the_deeper_layer_collapses(broken, capsys):
    status, answer = doctor(capsys, broken("crowded"))
    assert status == 1
    (hot,) = named(answer, "hot_expert")
    assert hot["layers"] == [1] and hot["evidence"]["times_its_share"][1] > 2 and hot["since"] <= 17
    (collapse,) = named(answer, "collapse")
    assert collapse["layers"] == [1] and collapse["evidence"]["first_layer"] == 1
    assert collapse["evidence"]["effective_experts"]["1"] < 4
    assert changes(collapse)[0] == "balance=bias"
    assert [layer["healthy"] for layer in answer["layers"]] == [True, False]


def test_a_rushed_router_makes_one_expert_dominant_and_others_die(broken, capsys):
    status, answer = doctor(capsys, broken("rushed"))
    assert status == 1
    (dominant,) = named(answer, "dominant_expert")
    assert dominant["layers"] == [1] and dominant["evidence"]["share_of_sets"] >= 0.95
    windows = micro.rows(broken("rushed"), "window")
    (dead,) = named(answer, "dead_experts")
    assert dead["evidence"]["in_training"]
    for row in windows:
        if row["step"] >= dead["since"]:
            assert not any(row["counts"][1][expert] for expert in dead["evidence"]["in_training"])
    assert changes(dominant)[0] == "balance=bias optim.multipliers.router=1", "what departs from the recipe, all at once"
    names = [finding["name"] for finding in answer["findings"]]
    assert names.index("dominant_expert") < names.index("dead_experts") < names.index("collapse"), "most severe first"


def test_a_bias_that_outvotes_every_score_is_balance_without_meaning(broken, capsys):
    status, answer = doctor(capsys, broken("bias"))
    fights = named(answer, "balancing_fights")
    assert status == 1 and [finding["layers"] for finding in fights] == [[0], [1]]
    assert fights[0]["evidence"]["bias_range"] > 1e8 and changes(fights[0]) == ["balance.rate=0.02"]
    assert all(layer["effective_experts"] > 7.9 for layer in answer["layers"]), "the load alone looks perfect"
    (hash_like,) = named(answer, "no_better_than_hash")
    assert hash_like["evidence"]["slice_bpb_shuffled_routing"] - hash_like["evidence"]["slice_bpb"] < 0.01


def test_a_router_that_never_moves_is_named_with_its_band(broken, capsys):
    status, answer = doctor(capsys, broken("idle"))
    (update,) = answer["findings"]
    assert status == 1 and update["name"] == "update_ratio" and update["evidence"]["group"] == "router"
    assert "committed healthy runs" in update["says"] and changes(update) == ["optim.multipliers.router=1"]


def test_a_learning_rate_far_too_low_is_found_by_group_and_leaves_routing_without_meaning(broken, capsys):
    status, answer = doctor(capsys, broken("slow"))
    updates = named(answer, "update_ratio")
    assert status == 1 and [finding["evidence"]["group"] for finding in updates] == ["dense", "expert"]
    assert changes(updates[0]) == ["optim.muon.lr=0.02"]
    (hash_like,) = named(answer, "no_better_than_hash")
    assert "model.router=hash balance=none unranked=true" in changes(hash_like)


def test_a_learned_router_that_its_hash_twin_equals_is_no_better_than_hash(finished, hash_twin, capsys):
    """At this size, 32 steps of 256 bytes, the hash twin is even ahead."""
    status, answer = doctor(capsys, finished("moe"), "--control", str(hash_twin))
    (finding,) = answer["findings"]
    assert status == 1 and finding["name"] == "no_better_than_hash"
    assert finding["evidence"]["control_slice_bpb"] == micro.record(hash_twin).metrics.slice_bpb
    assert finding["evidence"]["step"] == micro.STEPS


def test_a_control_that_is_no_twin_is_refused(finished, broken, hash_twin, tmp_path, capsys):
    assert main(["doctor", str(finished("moe")), "--control", str(broken("idle"))]) == 2
    assert "is no hash-router run" in capsys.readouterr().err
    other = Path(shutil.copytree(hash_twin, tmp_path / "other"))
    plan = (other / "plan.yaml").read_text()
    (other / "plan.yaml").write_text(plan.replace("lr: 0.02", "lr: 0.01"))
    assert main(["doctor", str(finished("moe")), "--control", str(other)]) == 2
    assert "optim.muon.lr: 0.01 -> 0.02" in capsys.readouterr().err


@pytest.mark.parametrize("name", BROKEN)
def test_every_command_composes_to_the_same_plan_with_the_change(broken, capsys, name):
    _, answer = doctor(capsys, broken(name))
    tries = [command for finding in answer["findings"] for command in finding["tries"]]
    assert tries
    theirs = compose([*micro.MOE, f"run.folder={broken(name).parents[1]}", *ILL, *BROKEN[name]]).plan
    for command in tries:
        verb, *words = shlex.split(command["line"])[3:]
        plan = compose(words).plan
        assert verb == "speedrun" and (plan.model.width, plan.health) == (theirs.model.width, theirs.health)
        assert all(word in words for word in command["change"])


def test_an_unfinished_run_is_judged_by_what_it_has_logged(stopped, capsys):
    with open(stopped / "metrics.jsonl", "ab") as log:
        log.write(b'{"kind":"step","step":13,"tok')  # a row that is being written
    status, said = told(capsys, stopped)
    assert status == 3 and "unfinished: step 12 of 32" in said and said.endswith("verdict not known yet")


def test_layers_of_a_run_that_has_not_ended_are_those_of_its_plan(tmp_path, no_figures, capsys):
    words = ("model.moe_every=2", "model.layers=4", "model.ffn_width=32", "health.window_steps=8")
    assert micro.speedrun(tmp_path, *words, "run.stop_after_step=20") == 0
    _, said = told(capsys, micro.the_folder(tmp_path))
    assert "layer 0 " in said and "layer 2 " in said and "layer 1 " not in said


def test_a_finished_run_whose_log_was_cut_is_not_judged(finished, tmp_path, capsys):
    run = Path(shutil.copytree(finished("moe"), tmp_path / "run"))
    rows = (run / "metrics.jsonl").read_text().splitlines(keepends=True)
    for left, says in ((rows[:-1], "without the scores of the end"), (rows[:20], "ends at step ")):
        (run / "metrics.jsonl").write_text("".join(left))
        assert main(["doctor", str(run)]) == 2
        assert says in capsys.readouterr().err


@pytest.mark.parametrize(
    "counts, says", [([1, 2, 3, 4], "counts[0] is 1, expected a list"), ([[1, 2, 3, 4]], "does not belong to its plan")]
)
def test_counts_of_a_stop_in_another_shape_are_named(stopped, capsys, counts, says):
    stop = {"reason": "collapse", "step": 12, "what": "w", "remedy": "r", "counts": counts}
    (stopped / "stopped.json").write_text(json.dumps(stop))
    assert main(["doctor", str(stopped)]) == 2
    assert says in capsys.readouterr().err


def test_doctor_writes_nothing(broken, capsys):
    before = micro.snapshot(broken("idle"))
    doctor(capsys, broken("idle"))
    assert micro.snapshot(broken("idle")) == before


@pytest.mark.parametrize(
    "damage, says",
    [
        (lambda run: (run / "plan.yaml").unlink(), "has no plan.yaml"),
        (lambda run: (run / "plan.yaml").write_text("model: ["), "plan.yaml is truncated or corrupt"),
        (lambda run: (run / "metrics.jsonl").unlink(), "metrics.jsonl is missing"),
        (lambda run: (run / "metrics.jsonl").write_bytes((run / "metrics.jsonl").read_bytes()[:-9]), "truncated"),
        (lambda run: (run / "record.json").write_text("{"), "record.json is truncated or corrupt"),
        (lambda run: shutil.rmtree(run), "no run folder"),
    ],
)
def test_a_missing_or_corrupt_file_is_named_with_a_remedy(finished, tmp_path, capsys, damage, says):
    run = Path(shutil.copytree(finished("moe"), tmp_path / "run"))
    damage(run)
    assert main(["doctor", str(run)]) == 2
    said = capsys.readouterr().err
    assert says in said and len(said.strip().splitlines()) > 1


def test_a_corrupt_stop_is_named(stopped, capsys):
    (stopped / "stopped.json").write_text('{"reason": "collapse"}')
    assert main(["doctor", str(stopped)]) == 2
    assert "stopped.json is corrupt: step is missing; what is missing; remedy is missing" in capsys.readouterr().err


def test_from_sick_to_healthy(tmp_path, capsys):
    """A collapse is provoked, seen by the health stop, diagnosed, and left by the very command that doctor gives."""
    words = ("balance=none", "health.window_steps=8", "health.collapse_load=0.8", "health.dead_share=1", COLLAPSING)
    often = ("run.checkpoint_every_s=0", "run.keep_checkpoints=100")
    assert micro.speedrun(tmp_path, *words, *often) == 3
    sick = micro.the_folder(tmp_path)
    assert f"make doctor RUN={sick}" in capsys.readouterr().err
    assert json.loads((sick / "stopped.json").read_text())["reason"] == "collapse"
    status, answer = doctor(capsys, sick)
    assert status == 1 and "stopped by health (collapse)" in answer["state"]
    first = answer["findings"][0]
    assert first["layers"] == [1]
    command = first["tries"][0]
    assert command["change"] == ["balance=bias"] and 0 < command["step"] < first["since"]
    assert f"fork={sick}@{command['step']}" in shlex.split(command["line"])
    assert main(shlex.split(command["line"])[3:]) == 0
    capsys.readouterr()
    (well,) = [path.parent for path in tmp_path.glob("*/*-fork/record.json")]
    status, answer = doctor(capsys, well)
    assert status == 0 and answer["healthy"]


def test_a_run_stopped_by_nan_is_told_to_calm_down(tmp_path, capsys):
    assert micro.speedrun(tmp_path, "optim.adamw.lr=1e38", "schedule.warmup_share=0") == 3
    status, answer = doctor(capsys, micro.the_folder(tmp_path))
    assert status == 1 and answer["findings"][0]["name"] == "stopped_nan"
    assert changes(answer["findings"][0])[0] == "optim.adamw.lr=0.003"
