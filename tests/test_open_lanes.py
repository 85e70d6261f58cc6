"""What an open lane fixes and what it leaves to a contestant, and that no dial gets training for free."""

import json
from types import SimpleNamespace

import micro
import pytest
import torch
from micro import no_figures_fixture  # noqa: F401

import harness.train.loop
import harness.train.run
from harness.__main__ import main
from harness.errors import UserError
from harness.plan.check import check
from harness.plan.compose import compose
from harness.plan.goal import goal
from harness.plan.lanes import lane_names, read_track
from harness.plan.schema import FIXED_IN_OPEN, FROZEN, UNHASHED, Data, walk
from harness.record.record import unranked_reasons
from harness.train.chain import hash_tensors
from harness.train.clock import TRAINING, Clock
from harness.train.warmup import warm_up
from harness.verbs import matrix

OPEN = [name for name in lane_names() if name.endswith("open")]
MOE = "model.ffn_width=0 model.num_experts=8 model.expert_width=64 model.top_k=2 balance=bias".split()
TO_WRONG = {  # of every key that chooses what is read or scored, another value
    "data.sources": "[sotu]", "data.weights": "[1]", "data.noise": "[boilerplate]", "data.deduplicate": "true",
    "data.quality": "grades.jsonl", "data.epochs": "2", "data.order": "staged", "data.shards": "elsewhere",
    "track.corpus": "val", "track.train_sha256": "0", "track.val_sha256": "0", "track.slice_bytes": "131072",
    "track.target": "ppmd_given_train", "lane.open": "false", "validation.tokens": "262144",
}  # fmt: skip


@pytest.mark.parametrize("lane", OPEN)
def test_every_open_lane_has_a_line_and_no_twin_and_any_plan_of_it_is_ranked(lane):
    plan = compose([f"lane={lane}"]).plan
    assert plan.lane.open and plan.lane.twin is None and goal(plan.track)
    other = compose([
        f"lane={lane}", "batch.tokens_per_step=8192", "budget.tokens=8192000", "model.layers=3", "model.sequence_length=512",
        "optim.muon.lr=0.03", "schedule.decay_share=1", "schedule.warmup_share=0", "precision.format=fp32",
        "parallel.micro_batch_tokens=0", "model.memories=[smear]",
    ])  # fmt: skip
    assert not other.broken and not other.plan.unranked and not other.cut and other.scoring_cap is None


def test_a_contestant_of_an_open_lane_may_take_experts():
    assert compose(["lane=tiny-open", *MOE]).plan.model.num_experts == 8
    with pytest.raises(UserError, match="lane tiny-dense freezes"):
        compose(["lane=tiny-dense", *MOE])


def test_of_what_lanes_freeze_open_ones_fix_data_scoring_and_target_alone():
    sections = {key.partition(".")[0] for key in FROZEN - FIXED_IN_OPEN}
    assert sections == {"model", "attention", "residual", "memory", "batch", "budget", "validation", "precision"}
    assert FROZEN - FIXED_IN_OPEN >= {"validation.steps", "budget.tokens"} and "validation.tokens" in FIXED_IN_OPEN
    assert {f"data.{name}" for name in vars(Data())} - FIXED_IN_OPEN == {"data.document_mask"}


@pytest.mark.parametrize("key", TO_WRONG)
def test_what_chooses_the_text_or_the_score_is_not_the_contestants(key):
    with pytest.raises(UserError, match=f"lane tiny-open freezes {key}="):
        compose(["lane=tiny-open", f"{key}={TO_WRONG[key]}"])


def test_another_track_is_not_the_contestants():
    with pytest.raises(UserError, match="lane tiny-open freezes track.name=tiny, found track.name=sotu"):
        compose(["lane=tiny-open", "track=sotu"])


def test_an_open_lane_without_a_line_is_refused_with_what_to_do():
    plan = compose(["lane=tiny-open"]).plan
    plan.track.target = ""
    with pytest.raises(UserError, match="lane tiny-open is open, and track tiny has no target") as refused:
        check(plan)
    assert "name a track that has one" in refused.value.remedy and "ngram7" in refused.value.remedy
    with pytest.raises(UserError, match="has no target"):
        compose(["lane=tiny-open", "unranked=true", "track=wiki", "model.vocab_size=50304"])


@pytest.mark.parametrize("key, value", [("track.slice_bytes", 1024), ("data.deduplicate", True), ("data.epochs", 2)])
def test_an_open_lane_of_ones_own_races_on_the_same_data_to_the_same_line(key, value):
    """Else its runs would stand on the board of the others."""
    plan = compose(["lane=tiny-open"]).plan
    section, name = key.split(".")
    setattr(getattr(plan, section), name, value)
    with pytest.raises(UserError, match=f"lane tiny-open is open, and its file has {key}={value} where every open lane") as no:
        check(plan)
    assert "lanes/tracks" in no.value.remedy
    plan.unranked = True
    check(plan)


def test_a_short_look_at_an_open_lane_is_scored_on_as_much_as_that_of_another():
    words = ["unranked=true", "budget.tokens=65536"]
    assert [compose([f"lane={lane}", *words]).scoring_cap for lane in ("tiny-open", "tiny-dense")] == [65536, 65536]
    assert compose(["lane=tiny-open", "budget.tokens=65536"]).scoring_cap is None
    assert compose(["lane=tiny-open", "unranked=true", "budget.tokens=99999744"]).scoring_cap is None


def test_the_line_of_the_race_on_wikipedia_stands_on_the_data_of_wiki():
    raced, fixed = vars(read_track("wiki-race")), vars(read_track("wiki"))
    differ = {key for key in fixed if fixed[key] != raced[key]}
    assert differ == {"name", "lines", "milestones", "target", "tokens"}
    assert raced["tokens"].final == [] and vars(raced["tokens"]) == vars(fixed["tokens"]) | {"final": []}
    assert raced["lines"]["ngram3_tokens"].slice == goal(read_track("wiki-race")).level


def test_lanes_lists_open_lanes_as_what_they_are(capsys):
    assert main(["lanes"]) == 0
    said = {line.split()[0]: line for line in capsys.readouterr().out.splitlines() if line.strip()}
    assert "open, from 4 x 256, dense FFN 512" in said["tiny-open"] and "from 1,572,864 bytes" in said["tiny-open"]
    assert "None" not in "".join(said.values()) and "open," not in said["tiny-dense"]


def test_plan_says_which_keys_an_open_lane_fixes(capsys):
    assert main(["plan", "lane=tiny-open", "--keys"]) == 0
    marks = {line.split()[0]: line.split()[1] for line in capsys.readouterr().out.splitlines()}
    assert [marks[key] for key in ("model.width", "budget.tokens", "batch.tokens_per_step", "validation.steps")] == ["free"] * 4
    assert {marks[key] for key in ("data.sources", "track.target", "lane.open", "validation.tokens")} == {"frozen"}


def test_a_matrix_leaves_open_lanes_out():
    assert "tiny-dense" in matrix._lanes_of("tiny") and not set(matrix._lanes_of("tiny")) & set(OPEN)
    with pytest.raises(UserError, match="track wiki-race has open lanes alone"):
        matrix.main(["track=wiki-race"])


def test_no_dial_of_a_plan_names_a_file():
    """Of keys that take any text: where runs lie, and a checkpoint to start from, which is never ranked. Others take names that
    the harness knows."""
    texts = {key for key, f in walk() if f.type in (str, list[str], str | None) and "among" not in f.metadata} - FIXED_IN_OPEN
    assert texts & UNHASHED == {"run.folder", "fork"}
    for key in texts - UNHASHED:
        with pytest.raises(UserError, match="weights.bin"):
            compose(["lane=tiny-open", "model.memories=[canon]", "precision.format=nvfp4", f"{key}=[weights.bin]"])


def test_weights_from_elsewhere_are_never_ranked():
    plan = compose(["lane=tiny-open", "fork=runs/tiny-open/1-0123abcd@last"]).plan
    clean = SimpleNamespace(dirty=False)
    assert unranked_reasons(plan, {}, clean, 0, None, (0, 0.0)) == ["forked from runs/tiny-open/1-0123abcd@last"]


@pytest.mark.parametrize("words", [
    "optim.matrices=adamw", "optim.matrices=lion optim.others=lion", "optim.matrices=soap",
    "optim.matrices=schedule_free optim.others=schedule_free schedule.decay_share=0",
    "model.memories=[engram,bigram,smear] memory.engram.layers=[1] memory.bigram.columns=0",
    "model.norm_weight=true init.zero_output=false",
    "precision.format=nvfp4", "ahead.weights=[0.5]", "batch.stages=[128,256]", "optim.qk_clip=1 model.qk_norm=false",
])  # fmt: skip
def test_nothing_of_the_warm_up_is_left_whatever_the_plan(words):
    """Else two steps of training would be had off the clock."""
    cold, warm = (micro.session(*words.split()) for _ in range(2))
    warm_up(warm, Clock(), warm.corpus.val[:4096], 0, None)
    results = [session.step(0) for session in (cold, warm)]
    assert torch.equal(results[0].loss, results[1].loss)
    assert hash_tensors(warm.state()) == hash_tensors(cold.state())


@pytest.mark.slow
def test_the_clock_stands_only_once_the_device_has_done_what_it_was_given(tmp_path, monkeypatch, no_figures):
    """Else the update after which a run validates would run off the clock on a GPU, in as many steps as a plan validates at."""
    seen = []

    class Watched(Clock):
        def entry(self, name):
            if self.open[-1:] == [TRAINING]:
                seen.append(name)
            return super().entry(name)

    monkeypatch.setattr(harness.train.run, "Clock", Watched)
    monkeypatch.setattr(harness.train.loop, "synchronize", lambda device: seen.append("still"))
    micro.run(tmp_path, "run.checkpoint_steps=[4]", lane=["lane=tiny-open", "model.ffn_width=32", *micro.COMMON])
    stops = [name for name in seen if name != "still"]
    assert {"validation_s", "checkpoint_s", "peaks_s"} == set(stops)
    assert all(seen[i - 1] == "still" for i, name in enumerate(seen) if name != "still")
    assert seen[-1] == "still"  # and the end of the budget


@pytest.mark.slow
def test_a_run_of_an_open_lane_states_its_lane_and_its_line(tmp_path, no_figures):
    folder = micro.run(tmp_path, lane=["lane=tiny-open", "model.ffn_width=32", *micro.COMMON])
    record = json.loads((folder / "record.json").read_text())
    assert (record["lane"], record["metrics"]["target"]["line"]) == ("tiny-open", "xz_given_train")
    assert set(record["unranked_reasons"]) <= {"unranked=true", "the source tree had uncommitted changes"}
