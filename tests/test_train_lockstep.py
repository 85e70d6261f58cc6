"""Scores of a model whose experts are spread over ranks, and of ranks that each have all of it: the bits of one process."""

import json
import os
import time
from copy import deepcopy
from functools import cache

import micro
import processes
import pytest

PROGRAM = (micro.ROOT / "tests" / "lockstep_on_ranks.py").read_text()
TWO = ("val: bf16, muon, bias", "val: dense, clipped", "val: softmax, swiglu, checkpointing", "val: tasks, masked", "val: fp8")
FOUR = ("val: bf16, muon, bias", "val: fp8")
pytestmark = [pytest.mark.slow, pytest.mark.process]


def on_ranks(world, folder, *cases):
    folder.mkdir(exist_ok=True)
    cache = {"SPEEDRUN_CACHE": os.environ["SPEEDRUN_CACHE"]} if "SPEEDRUN_CACHE" in os.environ else {}
    done = processes.run_ranks(world, PROGRAM, str(folder), *cases, **cache)
    assert [rank.returncode for rank in done] == [0] * world, "".join(rank.stderr[-3000:] for rank in done)
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in range(world)]


@pytest.fixture(name="alone", scope="module")
def alone_fixture(tmp_path_factory):
    """What one process finds."""

    @cache
    def alone(*cases):
        (found,) = on_ranks(1, tmp_path_factory.mktemp("alone"), *cases)
        return found

    return lambda *cases: deepcopy(alone(*cases))


@pytest.mark.parametrize("world, cases", [(2, (*TWO, "fault")), (4, (*FOUR, "fault"))])
def test_every_rank_has_the_score_of_one_process_in_the_same_bytes(world, cases, tmp_path, alone):
    """Of val in five batches and two pieces more, of a slice, under shuffled routing, of less than a window; and what one of
    them cannot quantize ends the scores of all in the same words."""
    for found in on_ranks(world, tmp_path, *cases):
        for case in cases:
            assert found[case] == alone(*TWO, "fault")[case], case
    assert "input" in alone(*TWO, "fault")["fault"]


@pytest.mark.parametrize("world", [2, 4])
def test_public_sets_of_which_ranks_have_unequal_shares_have_the_bytes_of_one_process(world, tmp_path, alone):
    expected, found = alone("tasks", "sets"), on_ranks(world, tmp_path, "tasks", "sets")
    written = [of_rank["tasks"].pop("written") for of_rank in found]
    whole = expected["tasks"].pop("written")
    assert {prompt: tokens for of_rank in written for prompt, tokens in of_rank.items()} == whole
    assert sum(map(len, written)) == len(whole) > 20 and len({str(tokens) for tokens in whole.values()}) > 5
    first, *others = found
    assert first == expected and expected["sets"]["batches"] % 2 == 1 and expected["sets"]["core"]["examples"] == 33
    assert len({row["nats"] for row in expected["tasks"]["tasks"]["scores"]}) > 5
    assert all(of_rank["tasks"] == {} and of_rank["sets"].keys() == {"batches"} for of_rank in others)


def test_a_rank_that_fails_in_the_middle_of_a_set_ends_it_for_all_within_seconds_with_its_own_words(tmp_path, alone):
    begun = time.monotonic()
    first, other = on_ranks(2, tmp_path, "broken sets")
    assert first["broken sets"]["core"] == {"failed": "the disk of rank 1 is full"} and time.monotonic() - begun < 60
    assert first["broken sets"]["wikitext"] == alone("tasks", "sets")["sets"]["wikitext"]
