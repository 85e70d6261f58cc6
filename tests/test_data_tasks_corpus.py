"""A track of tasks: which plans it takes, what its val is made of, and that its hashes are held."""

import re
from dataclasses import replace

import micro
import pytest

from harness.__main__ import main
from harness.data import corpora
from harness.data.prepare import prepare
from harness.errors import UserError
from harness.plan.compose import compose
from harness.plan.fingerprint import flat
from harness.plan.lanes import read_track
from harness.plan.tasks import made_anew, made_by, val_length
from harness.verbs.prepare import _text

REFUSED = {
    "tasks of a track of text": (["lane=tiny-dense", "data.tasks=[copy]"], "on track tiny, which is not made of tasks"),
    "shares of a track of text": (["lane=tiny-dense", "data.task_shares=[1]"], "on track tiny, which is not made of tasks"),
    "none": (["data.tasks=[]"], "track physics, which is made of tasks"),
    "one twice": (["data.tasks=[copy,copy]"], "names copy twice"),
    "unknown": (["data.tasks=[kopy]"], "did you mean copy"),
    "other length": (["data.task_shares=[1,2]"], "has 2 shares for the 1 tasks"),
    "negative": (["data.task_shares=[-1]"], "data.task_shares=[-1"),
    "nothing": (["data.task_shares=[0]"], "a task mix that sums to nothing"),
    "no number": (["data.task_shares=[nan]"], "data.task_shares=[nan]"),
    "vocabulary": (["model.vocab_size=255"], "model.vocab_size=255"),
    "difficulty": (["task.copy.length=20"], "model.sequence_length=32"),
    "gap": (["task.copy.gap=30"], "model.sequence_length=32"),
    "tokenizer": (
        ["track.tokens.tokenizer=gpt2", "track.tokens.final=[]", "model.vocab_size=50304"],
        "track.tokens.tokenizer='gpt2'",
    ),
    "format": (["track.tokens.format=bin"], "track.tokens.format='bin'"),
    "shards": (["data.shards=somewhere"], "has no token files"),
}


@pytest.mark.parametrize("words, says", REFUSED.values(), ids=REFUSED)
def test_a_plan_that_tasks_cannot_be_made_for_is_refused_with_what_can(words, says):
    lane = [] if words[0].startswith("lane=") else micro.TASKS
    with pytest.raises(UserError) as error:
        compose([*lane, "unranked=true", *words])
    assert says in str(error.value) and error.value.remedy


def test_a_lane_freezes_its_tasks_and_difficulties():
    shares = ",".join("1" * len(compose(micro.TASKS[:1]).plan.data.tasks))
    for word in ("data.tasks=[copy]", "task.copy.length=4", f"data.task_shares=[{shares}]"):
        with pytest.raises(UserError, match="add unranked=true"):
            compose([*micro.TASKS[:1], word])


def known(*words):
    """What a plan's data are, and a track that states the val it has, at any sizes."""
    wanted = corpora.wanted_by(compose([*micro.TASKS, *words]).plan)
    found = corpora.load(wanted)
    track = wanted.track
    made = replace(track.tokens, made_of=made_by(compose([*micro.TASKS, *words]).plan))
    hashes = {f"{split}_sha256": sha256 for split, sha256 in found.hashes.items()}
    return replace(wanted, track=replace(track, tokens=made, **hashes)), found


def test_val_and_the_sample_of_training_are_held_against_the_hashes_of_the_track(tmp_path, monkeypatch):
    monkeypatch.setenv("SPEEDRUN_CACHE", str(tmp_path))
    wanted, found = known()
    assert corpora.load(wanted).hashes == found.hashes and corpora.load_val(wanted).sha256 == found.hashes["val"]
    for split in ("train", "val"):
        wrong = replace(wanted, track=replace(wanted.track, **{f"{split}_sha256": "0" * 64}))
        with pytest.raises(UserError, match=f"^{split} of track physics has the wrong sha256: expected 0{{64}}, found"):
            corpora.load(wrong)
    easier = replace(wanted, task=replace(wanted.task, copy=replace(wanted.task.copy, gap=3)))
    assert corpora.load(easier).hashes["val"] != found.hashes["val"]  # another val, of which the track states nothing
    (tmp_path / "derived").rename(tmp_path / "gone")
    assert corpora.load(wanted).hashes == found.hashes


@pytest.mark.parametrize("word", ["track.tokens.val_tokens=1000", "model.sequence_length=64", "track.tokens.val_tokens=20"])
def test_a_plan_knows_how_much_its_val_will_hold(word, tmp_path, monkeypatch):
    monkeypatch.setenv("SPEEDRUN_CACHE", str(tmp_path))
    plan = compose([*micro.TASKS, "track.tokens.val_tokens=3000", "track.tokens.slice_tokens=33", word]).plan
    assert val_length(plan) == len(corpora.load_val(corpora.wanted_by(plan)).tokens)


@pytest.mark.parametrize("word", ["task.copy.gap=3", "model.sequence_length=64", "task.copy.symbols=32"])
def test_another_difficulty_or_length_of_rows_is_another_val_and_nothing_else_is(word):
    plan = compose(micro.TASKS).plan
    plan.track.tokens.made_of = made_by(plan)
    assert not made_anew(flat(plan))
    other = compose([*micro.TASKS, word]).plan
    other.track.tokens.made_of = plan.track.tokens.made_of
    assert made_anew(flat(other))
    same = compose([*micro.TASKS, "data.task_shares=[2]", "model.width=64", "budget.tokens=4096"]).plan
    assert made_by(same) == plan.track.tokens.made_of


def test_the_starting_plan_says_shares_padding_and_a_val_that_is_not_the_tracks(capsys):
    assert main(["plan", *micro.TASKS, "budget.tokens=8192"]) == 0
    said = capsys.readouterr().out
    (tasks,) = re.findall(r"^tasks .*$", said, re.MULTILINE)
    assert re.search(r"\d\.\d% of the tokens are answers", tasks) and "0% padding" in tasks and "copy 100.0% (100.0%)" in tasks
    assert "generated anew: not the track's" in said and "copy in rows of 32, task.copy.gap=4, task.copy.length=2" in said
    assert "val bits per answer decides" in said and "bits per byte" not in said


@pytest.mark.slow
@pytest.mark.parametrize("lane", ["physics-dense", "physics-moe-16e"])
def test_the_lanes_have_the_val_of_their_track_and_are_twins(lane):
    plan = compose([f"lane={lane}"]).plan
    assert not made_anew(flat(plan)) and compose([f"lane={plan.lane.twin}"]).plan.lane.twin == lane
    assert compose([f"lane={plan.lane.twin}"]).plan.data == plan.data
    found, track = corpora.load_for(plan), read_track("physics")
    assert found.hashes == {"train": track.train_sha256, "val": track.val_sha256}
    assert found.facts()["val_bytes"] == track.val_bytes and len(found.val) == track.tokens.val_tokens
    assert (
        (len(found.val) - 1) % plan.model.sequence_length == 0 == (track.tokens.slice_tokens - 1) % plan.model.sequence_length
    )


def test_prepare_says_what_a_track_of_tasks_is_made_of(monkeypatch, capsys):

    report = prepare(corpora.wanted_by(compose(micro.TASKS).plan))
    said = _text(report)
    assert "no end of tokens" in said and report.hashes["train"] in said and report.hashes["val"] in said
    assert "copy 100.0% (100.0%)" in said and "none: the hash of its question" in said


def test_a_track_of_tasks_without_a_lane_says_what_is_missing():
    with pytest.raises(UserError, match="is said by a lane"):
        corpora.load(corpora.Wanted(read_track("physics")))
