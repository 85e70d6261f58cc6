"""The file of weights: one, of the bytes of safetensors, whichever ranks hold them."""

import micro
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from rank_threads import on_threads
from safetensors.torch import save_file
from test_train_disk import FULL
from test_train_shards import DTYPES, EXPERTS, held_of, shards_of, whole_state

from harness.errors import UserError
from harness.train import weights
from harness.train.shards import WHOLE


@st.composite
def tensors(draw):
    names = draw(st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=9), unique=True, max_size=7))
    found = {}
    for name in names:
        shape, dtype = draw(st.lists(st.integers(0, 4), max_size=3)), draw(st.sampled_from(DTYPES))
        found[name] = (torch.rand(shape) * 9).to(dtype)
    return found


@settings(max_examples=60, deadline=None)
@given(tensors())
def test_weights_are_written_in_the_bytes_of_safetensors(tmp_path_factory, found):
    folder = tmp_path_factory.mktemp("weights")
    found.pop("__metadata__", None)
    weights.write(folder / "streamed", found)
    save_file(found, folder / "beside")
    assert (folder / "streamed").read_bytes() == (folder / "beside").read_bytes()


@pytest.mark.parametrize("world", [1, 2, 4])
def test_weights_in_slices_are_one_file_of_the_same_bytes_and_no_rank_has_more_than_a_slice_of_another(
    tmp_path, monkeypatch, world
):
    whole, largest, content = whole_state(), [], weights.content
    monkeypatch.setattr(weights, "content", lambda t: largest.append(t.numel()) or content(t))

    def work(ranks):
        shards = shards_of(ranks)
        weights.write(tmp_path / "spread", held_of(whole, shards), shards)

    assert on_threads(world, work) == [None] * world
    save_file(whole, tmp_path / "beside")
    assert (tmp_path / "spread").read_bytes() == (tmp_path / "beside").read_bytes()
    assert max(largest) == max(36, EXPERTS * 9 // world)  # the largest that every rank has, and a share of the largest stack
    assert sorted(path.name for path in tmp_path.iterdir()) == ["beside", "spread"]


def test_a_full_disk_under_weights_in_slices_is_one_error_on_all_ranks(tmp_path, monkeypatch):
    def full(path, chunks):
        next(iter(chunks))
        raise FULL

    monkeypatch.setattr(weights, "replace_atomically", full)

    def work(ranks):
        shards = shards_of(ranks)
        weights.write(tmp_path / "weights", held_of(whole_state(), shards), shards)

    found = on_threads(3, work)
    assert all(isinstance(each, UserError) for each in found) and len({str(each) for each in found}) == 1
    assert "cannot write" in str(found[0]) and not list(tmp_path.iterdir())


def test_the_bits_of_a_session_are_the_same_file_and_hash_through_shards(tmp_path):
    built = micro.session()
    state_dict = built.model.state_dict()
    weights.write(tmp_path / "streamed", state_dict, WHOLE)
    save_file({name: t.contiguous() for name, t in state_dict.items()}, tmp_path / "beside")
    assert (tmp_path / "streamed").read_bytes() == (tmp_path / "beside").read_bytes()
