"""State in slices: checkpoints that any number of ranks writes and any other reads, and one hash."""

import json
import os

import micro
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from rank_threads import on_threads
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from test_train_disk import FULL, state

from harness.doctor.patient import Patient
from harness.errors import UserError
from harness.ranks import Ranks
from harness.record import checkpoint_files
from harness.record.documents import CheckpointNote
from harness.train import checkpoint, slices
from harness.train.chain import hash_tensors
from harness.train.health import HealthStop
from harness.train.loop import Loop
from harness.train.shards import Rows, Shards

STACKS = ("blocks.0.feedforward.up", "blocks.1.feedforward.down")
EXPERTS = 12
WORLDS = st.sampled_from([1, 2, 3, 4, 6, 12])
DTYPES = [torch.float32, torch.bfloat16, torch.float64, torch.int64, torch.int32, torch.uint8, torch.bool]


def whole_state(seed: int = 0) -> dict[str, torch.Tensor]:
    """Of one process: stacks, what optimizers keep of them, and what is the same on all ranks."""
    draw, found = torch.Generator().manual_seed(seed), {}
    for number, name in enumerate(STACKS):
        shape = (EXPERTS, 2 + number, 3)
        found[f"model.{name}"] = torch.randn(shape, generator=draw)
        found[f"soap.left.{name}"] = torch.randn(EXPERTS, 2, 2, generator=draw)
        found[f"soap.steps.{name}"] = torch.randn(EXPERTS, 1, 1, generator=draw)
        found[f"adamw.step.{name}"] = torch.tensor(3.0 + seed)
    found["model.blocks.0.feedforward.shared.up"] = torch.randn(EXPERTS, 3, generator=draw)
    found["model.blocks.0.feedforward.router.bias"] = torch.randn(EXPERTS, generator=draw)
    found["model.embedding"] = torch.randn(7, 3, generator=draw).bfloat16()
    found["soap.count"] = torch.tensor(5 + seed)
    return found


def shards_of(ranks: Ranks) -> Shards:
    share = EXPERTS // ranks.world
    held = Rows(ranks.rank * share, (ranks.rank + 1) * share, EXPERTS)
    return Shards(dict.fromkeys(STACKS, held) if share < EXPERTS else {}, ranks)


def held_of(whole: dict[str, torch.Tensor], shards: Shards) -> dict[str, torch.Tensor]:
    """What a rank holds of it, written out for this state: the stacks and what has their first axis."""
    share, rank = EXPERTS // shards.ranks.world, shards.ranks.rank
    stacks = {name for name, t in whole.items() if name.endswith(STACKS) and t.ndim}
    return {name: (t[rank * share :][:share] if name in stacks else t).clone() for name, t in whole.items()}


def save(folder, world, whole, step=1, keep=2):
    """What each rank got for it."""

    def work(ranks):
        shards = shards_of(ranks)
        checkpoint.save(folder, step, held_of(whole, shards), state(step), keep, shards=shards)

    return on_threads(world, work)


def restored(folder, world):
    """(step, what it then holds, what it would say), of each rank."""

    def work(ranks):
        said, shards = [], shards_of(ranks)
        found = checkpoint.load_newest(folder, said.append, ranks=ranks)
        live = {name: torch.zeros_like(t) for name, t in held_of(whole_state(), shards).items()}
        if found is not None:
            shards.fill(live, found.tensors)
        return found and found.step, live, said

    return on_threads(world, work)


def same(a, b):
    return a.keys() == b.keys() and all(a[name].dtype == b[name].dtype and a[name].equal(b[name]) for name in a)


# Which rows, and the whole


@pytest.mark.parametrize("world", [2, 3, 12])
def test_slices_are_named_by_parameter_and_first_axis_and_their_whole_is_that_of_one_process(world):
    whole = whole_state()

    def work(ranks):
        shards = shards_of(ranks)
        held = held_of(whole, shards)
        sliced = {name for name, t in held.items() if shards.rows(name, t)}
        assert sliced == {f"{what}.{name}" for what in ("model", "soap.left", "soap.steps") for name in STACKS}
        assert {name: shards.shape(name, t) for name, t in held.items()} == {n: tuple(t.shape) for n, t in whole.items()}
        assert same(shards.whole_state(held), whole)
        return hash_tensors(held, shards)

    assert on_threads(world, work) == [hash_tensors(whole)] * world


def test_a_model_whose_experts_are_all_held_here_has_no_slices_and_sends_nothing():
    built = micro.session()
    shards = Shards.of(built.model, Ranks(1, 2))  # which would wait for another rank
    held = built.state()
    assert not shards.spread and shards.whole_state(held).keys() == held.keys()
    assert all(shards.whole(name, t) is t for name, t in held.items())
    assert hash_tensors(held, shards) == hash_tensors(held) and shards.own(held).keys() == held.keys()


def test_a_model_with_a_part_of_its_experts_says_which_rows_they_are():
    built = micro.session()
    for layer in built.model.moe_layers:
        experts = built.model.blocks[layer].feedforward
        experts.held = range(4, 6)
        for name in ("up", "down"):
            setattr(experts, name, torch.nn.Parameter(getattr(experts, name)[4:6].detach().clone()))
    spread = Shards.of(built.model, Ranks(2, 4)).spread
    names = [f"blocks.{layer}.feedforward.{name}" for layer in built.model.moe_layers for name in ("up", "down")]
    assert spread == dict.fromkeys(names, Rows(4, 6, 8))


def test_rows_of_a_stack_are_those_of_its_slices_joined():
    whole = torch.arange(24.0).view(8, 3)
    stack = slices.Stack([whole[:1], whole[1:6], whole[6:]])
    assert stack.shape == whole.shape and stack[...].equal(whole)
    for first in range(8):
        for end in range(first + 1, 9):
            assert stack[first:end].equal(whole[first:end])


# Checkpoints of any number of ranks are read by any other


@settings(max_examples=25, deadline=None)
@given(writers=WORLDS, readers=WORLDS, seed=st.integers(0, 3))
def test_what_any_number_of_ranks_wrote_any_other_number_reads_to_the_bit(tmp_path_factory, writers, readers, seed):
    folder, whole = tmp_path_factory.mktemp("checkpoints"), whole_state(seed)
    assert save(folder, writers, whole) == [None] * writers
    names = {checkpoint_files.name(1, rank, writers) for rank in range(writers)}
    assert {path.name for path in folder.iterdir()} == {*names, "step-000001.json"}
    for rank, (step, live, said) in enumerate(restored(folder, readers)):
        assert step == 1 and said == [] and same(live, held_of(whole, shards_of(Ranks(rank, readers))))
    alone = checkpoint.load(folder, 1)
    assert alone.meta == state(1) and same({name: t[...] for name, t in alone.tensors.items()}, whole)


def test_each_rank_writes_its_slices_and_the_first_one_also_the_rest(tmp_path):
    whole = whole_state()
    save(tmp_path, 3, whole)
    for rank in range(3):
        found = load_file(tmp_path / f"step-000001.rank-{rank:03d}-of-003.safetensors")
        held = held_of(whole, shards_of(Ranks(rank, 3)))
        assert same(found, held if rank == 0 else {name: t for name, t in held.items() if t.shape != whole[name].shape})


def test_one_process_writes_the_bytes_that_safetensors_does_and_a_note_of_one_hash(tmp_path):
    whole = whole_state()
    checkpoint.save(tmp_path / "a", 1, whole, state(1), keep=1)
    save_file(whole, tmp_path / "beside")
    assert (tmp_path / "a" / "step-000001.safetensors").read_bytes() == (tmp_path / "beside").read_bytes()
    note = json.loads((tmp_path / "a" / "step-000001.json").read_text())
    assert list(note) == ["step", "sha256", "meta", "note_sha256"]


def test_ranks_that_each_hold_all_state_read_what_was_spread_and_share_the_hashing(tmp_path, monkeypatch):
    whole, hashed, sha256 = whole_state(), [], checkpoint.file_sha256
    save(tmp_path, 4, whole)
    monkeypatch.setattr(checkpoint, "file_sha256", lambda path: hashed.append(path.name) or sha256(path))
    found = on_threads(3, lambda ranks: checkpoint.load(tmp_path, 1, ranks))
    assert all(same({name: t[...] for name, t in one.tensors.items()}, whole) for one in found)
    assert sorted(hashed) == [checkpoint_files.name(1, rank, 4) for rank in range(4)]


def test_another_number_of_ranks_at_the_same_step_takes_the_place_of_the_first(tmp_path):
    save(tmp_path, 4, whole_state(1))
    save(tmp_path, 2, whole_state(2))
    assert sorted(path.name for path in tmp_path.glob("*.safetensors")) == [checkpoint_files.name(1, r, 2) for r in (0, 1)]
    save(tmp_path, 1, whole_state(3))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-000001.json", "step-000001.safetensors"]
    assert same(restored(tmp_path, 1)[0][1], whole_state(3))


def test_only_the_newest_are_kept_with_every_file_of_theirs(tmp_path):
    for step, world in ((1, 2), (2, 3), (3, 1), (4, 4)):
        save(tmp_path, world, whole_state(step), step)
    kept = {checkpoint_files.name(4, rank, 4) for rank in range(4)} | {checkpoint_files.name(3)}
    assert {path.name for path in tmp_path.iterdir()} == kept | {"step-000003.json", "step-000004.json"}


# Damage


DAMAGE = ["a flipped bit", "truncated", "missing", "the note", "of another checkpoint"]


@pytest.mark.parametrize("how", DAMAGE)
@pytest.mark.parametrize("readers", [1, 2, 4])
def test_a_damaged_slice_is_named_and_all_ranks_fall_back_together(tmp_path, how, readers):
    save(tmp_path, 4, whole_state(1), 1)
    save(tmp_path, 4, whole_state(2), 2)
    path = tmp_path / checkpoint_files.name(2, 2, 4)
    content = bytearray(path.read_bytes())
    if how == "a flipped bit":
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
    elif how == "truncated":
        path.write_bytes(content[: len(content) // 2])
    elif how == "missing":
        path.unlink()
    elif how == "the note":
        path = tmp_path / "step-000002.json"
        path.write_text(path.read_text().replace(".rank-001", ".rank-007"))
    else:
        path.write_bytes((tmp_path / checkpoint_files.name(1, 2, 4)).read_bytes())
    found = restored(tmp_path, readers)
    for rank, (step, live, said) in enumerate(found):
        assert step == 1 and same(live, held_of(whole_state(1), shards_of(Ranks(rank, readers))))
        assert said == found[0][2] and len(said) == 1 and path.name in said[0] and "falling back" in said[0]


def test_a_checkpoint_that_one_rank_cannot_read_no_rank_takes(tmp_path):
    save(tmp_path, 2, whole_state())

    def judged(ranks):
        def judge(found):
            if ranks.rank == 1:
                raise ValueError("the log has been changed")

        with pytest.raises(ValueError, match="the log has been changed"):
            checkpoint.load(tmp_path, 1, ranks, judge)
        return checkpoint.load_newest(tmp_path, lambda text: None, judge, ranks)

    assert on_threads(2, judged) == [None, None]


def note(files):
    return {"step": 1, **files, "meta": state(1).content()}


@pytest.mark.parametrize(
    "files",
    [
        {}, {"sha256": "0" * 64, "files": {"step-000001.safetensors": "0" * 64}}, {"files": {}},
        {"files": {"step-000001.rank-000-of-002.safetensors": "0" * 64}},
        {"files": {f"step-000001.rank-00{r}-of-002.safetensors": "0" * 64 for r in (1, 0)}},
        {"files": {f"step-000002.rank-00{r}-of-002.safetensors": "0" * 64 for r in (0, 1)}},
        {"files": {"../../etc/passwd": "0" * 64}},
    ],
    ids=["none", "both", "no file", "a rank is missing", "out of order", "of another step", "elsewhere"],
)  # fmt: skip
def test_a_note_without_the_files_of_all_ranks_is_no_note(files):
    with pytest.raises(ValueError):
        CheckpointNote.model_validate(note(files))


@pytest.mark.parametrize(
    "change, says",
    [
        (lambda rows: rows | {"first": 1}, "where 0 comes next"),
        (lambda rows: rows | {"of": 13}, "up to 12, of 13|of 13 of|of 12 of"),
        (lambda rows: rows | {"end": 7}, "unlike|comes next"),
    ],
)
def test_rows_that_are_not_there_once_each_are_refused(tmp_path, change, says):
    """KempnerForge #202 wrote the experts of every rank as if they were the first ones."""
    t = torch.zeros(6, 2)
    rows = change({"first": 0, "end": 6, "of": 12})
    slices.write(tmp_path / "a", {"x": t}, {"x": Rows(rows["first"], rows["end"], rows["of"])})
    slices.write(tmp_path / "b", {"x": t}, {"x": Rows(6, 12, 12)})
    with pytest.raises(ValueError, match=says):
        slices.read([tmp_path / "a", tmp_path / "b"])
    with pytest.raises(ValueError, match="comes next|up to 6, of 12"):
        slices.read([tmp_path / "b"])


def test_a_tensor_of_two_files_is_refused(tmp_path):
    slices.write(tmp_path / "a", {"x": torch.zeros(2)}, {})
    slices.write(tmp_path / "b", {"x": torch.zeros(1)}, {"x": Rows(0, 1, 1)})
    for names in (("a", "a"), ("a", "b")):
        with pytest.raises(ValueError, match="another file has"):
            slices.read([tmp_path / name for name in names])


# Writers that fail or die


@pytest.mark.parametrize(
    "error", [FULL, SafetensorError("No space left on device")], ids=["from the system", "from safetensors"]
)
@pytest.mark.parametrize("where, rank", [("write", 0), ("write", 2), ("named", 0), ("named", 2), ("note", 0)])
def test_a_full_disk_of_any_rank_is_one_error_on_all_and_older_checkpoints_stay(tmp_path, monkeypatch, rank, where, error):
    save(tmp_path, 3, whole_state(1), 1)
    before = micro.snapshot(tmp_path)
    name = "step-000002.json" if where == "note" else checkpoint_files.name(2, rank, 3)
    write, replace = slices.write, os.replace

    def full(*words):
        if name in str(words[0 if where == "write" else 1]):
            raise type(error)(*error.args)
        return (write if where == "write" else replace)(*words)

    monkeypatch.setattr(*(("harness.train.slices.write", full) if where == "write" else (os, "replace", full)))
    found = save(tmp_path, 3, whole_state(2), 2)
    assert all(isinstance(each, UserError) for each in found) and len({str(each) for each in found}) == 1
    assert "checkpoint of step 2" in found[0].problem and "No space left" in found[0].problem
    assert "it goes on from step 1" in found[0].remedy
    assert [each.said_elsewhere for each in found] == [False, True, True]
    left = {path: seen for path, seen in micro.snapshot(tmp_path).items() if where == "write" or "step-000001" in path}
    assert left == before and checkpoint.steps(tmp_path) == [1]
    monkeypatch.undo()
    assert save(tmp_path, 3, whole_state(2), 2, keep=1) == [None] * 3
    assert len(list(tmp_path.iterdir())) == 4


class Killed(BaseException):
    pass


@pytest.mark.parametrize("rank, at", [(0, "step-000002.json"), (1, ".rank-001-"), (0, ".rank-000-")])
def test_a_writer_that_is_killed_leaves_the_last_good_checkpoint(tmp_path, monkeypatch, rank, at):
    save(tmp_path, 2, whole_state(1), 1)
    replace = os.replace

    def die(source, target):
        if at in str(target):
            (tmp_path / ".half.0123456789abcdef0123456789abcdef.tmp").write_bytes(b"what it had")
            raise Killed
        replace(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", die)
        found = save(tmp_path, 2, whole_state(2), 2)
    assert isinstance(found[rank], Killed) and None not in found
    for reader, (step, live, said) in enumerate(restored(tmp_path, 3)):
        assert step == 1 and said == [] and same(live, held_of(whole_state(1), shards_of(Ranks(reader, 3))))
    save(tmp_path, 4, whole_state(3), 2, keep=1)
    assert {path.name for path in tmp_path.glob("step-*")} == {
        "step-000002.json", *(checkpoint_files.name(2, r, 4) for r in range(4))
    }  # fmt: skip


@pytest.mark.parametrize("bad, says", [({0: "soap.left", 2: "model"}, "model"), ({1: "soap.steps"}, "soap.steps")])
def test_weights_that_are_not_finite_on_one_rank_stop_all_with_the_words_of_one_process(bad, says):
    def work(ranks):
        shards = shards_of(ranks)
        held = held_of(whole_state(), shards)
        if ranks.rank in bad:
            held[f"{bad[ranks.rank]}.{STACKS[1]}"][-1] = float("nan")
        loop = object.__new__(Loop)
        loop.session = type("Session", (), {"shards": shards, "state": lambda self: held})()
        loop.state = state(7)
        with pytest.raises(HealthStop) as stop:
            loop._refuse_bad_weights()
        return stop.value.what

    assert on_threads(3, work) == [f"step 7: {says}.{STACKS[1]} after the update not finite"] * 3


# Who else reads them


def test_the_doctor_knows_the_steps_of_which_no_file_is_missing(tmp_path):
    folder = tmp_path / "checkpoints"
    for step, world in ((1, 1), (2, 3), (3, 2)):
        save(folder, world, whole_state(), step, keep=3)
    patient = object.__new__(Patient)
    object.__setattr__(patient, "folder", tmp_path)
    assert patient.checkpoints == [1, 2, 3] == checkpoint.steps(folder)
    (folder / checkpoint_files.name(2, 1, 3)).unlink()
    (folder / "step-000003.json").unlink()
    assert patient.checkpoints == [1] and checkpoint.steps(folder) == [1, 2]


@pytest.mark.parametrize("change", ["another stack", "another name", "as many as one rank holds"])
def test_a_checkpoint_of_another_plan_does_not_fit(tmp_path, change):
    whole = whole_state()
    name = f"model.{STACKS[0]}"
    if change == "another name":
        whole["model.else"] = whole.pop(name)
    else:
        whole[name] = torch.zeros(EXPERTS // 2 if change == "as many as one rank holds" else EXPERTS + 1, 2, 3)
    checkpoint.save(tmp_path, 1, whole, state(1), keep=1)

    def work(ranks):
        shards = shards_of(ranks)
        with pytest.raises(UserError, match="does not fit this plan") as caught:
            shards.fill(held_of(whole_state(), shards), checkpoint.load(tmp_path, 1, ranks).tensors)
        return str(caught.value)

    (said,) = set(on_threads(2, work))
    assert name in said and ("not (12, 2, 3)" in said or change == "another name")
