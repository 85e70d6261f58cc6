"""What `data.*` may be on a track of bytes, refused before any text is read."""

import pytest
from plan_words import with_words

from harness.errors import UserError
from harness.plan.check import check
from harness.plan.check_data import TURNED, check_data
from harness.plan.compose import compose
from harness.plan.fingerprint import plan_hash
from harness.plan.lanes import read_track
from harness.plan.schema import Data
from harness.plan.track import Source

LANE = compose(["lane=sotu-dense"]).plan
TOKENS = compose(["lane=dense"]).plan
HASH = "0" * 64

IMPOSSIBLE = [
    (["data.noise_share=0.2"], "data.noise_share=0.2 of no noise", "data.noise=[boilerplate]"),
    (["data.noise=[boilerplate,boilerplate]"], "data.noise names boilerplate twice", "data.noise=[boilerplate]"),
    (["data.noise=[boilerplat]"], "data.noise='boilerplat'", "boilerplate"),
    (["data.noise=[boilerplate]", "data.noise_share=1.5"], "data.noise_share=1.5", "0 to 1"),
    (["data.noise=[boilerplate]", "data.noise_share=nan"], "data.noise_share=nan", "0 to 1"),
    (["data.sources=[soto]"], "data.sources names 'soto', which track sotu has not", "it has sotu"),
    (["data.sources=[sotu,sotu]"], "data.sources names sotu twice", "data.sources=[sotu]"),
    (["data.weights=[0]"], "data.weights=[0] sum to nothing", "above 0"),
    (["data.weights=[1,2]"], "data.weights=[1,2] has 2 weights for 1 sources: sotu", "give 1"),
    (["data.weights=[-0.5]"], "data.weights=[-0.5]", "0 on"),
    (["data.weights=[.inf]"], "data.weights=[inf]", "0 on"),
    (["data.quality_keep=0.5"], "data.quality_keep=0.5 without grades", "data.quality=grades.jsonl"),
    (["data.quality_keep=1.5"], "data.quality_keep=1.5", "0 to 1"),
    (["data.quality=g.jsonl", f"data.quality_sha256={HASH}"], "data.quality=g.jsonl drops nothing", "data.quality_keep=0.8"),
    (["data.quality=g.jsonl", "data.quality_keep=0.5"], "data.quality=g.jsonl without its hash", "data.quality_sha256="),
    ([f"data.quality_sha256={HASH}"], "data.quality_sha256 without data.quality", "name the file"),
    (["data.epochs=-1"], "data.epochs=-1", "at least 0"),
    (
        ["data.epochs=2716"],
        "data.epochs=2716 of budget.tokens=11120640, which has 43440 sequences of 256, 16 of them a step",
        "at most 2715, or smaller steps",
    ),
    (["data.epochs=9", "budget.tokens=2048"], "which has 8 sequences of 256, 8 of them a step", "at most 1,"),
    (
        ["data.epochs=43441", "data.noise=[boilerplate]", "data.noise_share=0.5", "data.order=staged"],
        "data.epochs=43441 of budget.tokens=11120640, which has 43440 sequences of 256",
        "at most 43440",
    ),
    (
        ["data.order=staged", "data.weights=[1]", "data.noise=[boilerplate]", "data.noise_share=0.5"],
        "data.order=staged of one source by its weight",
        "a second source",
    ),
    (["data.order=random"], "data.order='random'", "mixed"),
    (["data.order=staged"], "data.order=staged of one source without noise", "data.noise=[boilerplate]"),
]


@pytest.mark.parametrize(("words", "problem", "remedy"), IMPOSSIBLE, ids=[" ".join(words) for words, *_ in IMPOSSIBLE])
def test_a_dial_that_cannot_be_is_refused_with_its_value_and_what_to_type(words, problem, remedy):
    with pytest.raises(UserError) as error:
        check(with_words(LANE, words))
    assert problem in error.value.problem and remedy in error.value.remedy


TURNING = {
    "sources": "[wiki]", "weights": "[1]", "noise": "[boilerplate]", "noise_share": "0.1", "deduplicate": "true",
    "quality": "g.jsonl", "quality_sha256": "'0'", "quality_keep": "0.5", "epochs": "2", "order": "staged",
}  # fmt: skip


@pytest.mark.parametrize("key", TURNED)
def test_a_track_of_tokens_is_not_turned(key):
    with pytest.raises(UserError, match=f"data.{key}=.* on track .*, which is no track of bytes") as error:
        check_data(with_words(TOKENS, [f"data.{key}={TURNING[key]}"]))
    assert f"drop data.{key}" in error.value.remedy


def test_the_dials_that_turn_data_are_all_of_them():
    assert {*TURNED} == {*vars(Data())} - {"shards", "document_mask", "tasks", "task_shares"}


def test_what_goes_together_is_taken():
    for words in (
        ["data.noise=[boilerplate,random_bytes]"],
        ["data.noise=[boilerplate]", "data.noise_share=1", "data.order=staged", "data.deduplicate=true", "data.epochs=2"],
        ["data.sources=[sotu]", "data.weights=[3]"],
        ["data.epochs=2715"],  # a step a pass
        ["data.epochs=43440", "data.noise=[boilerplate]", "data.noise_share=0.5", "data.order=staged"],
        ["data.quality=g.jsonl", f"data.quality_sha256={HASH}", "data.quality_keep=0.8"],
    ):
        check(with_words(LANE, words))


def test_sources_of_a_track_of_several_are_named_and_may_be_staged():
    plan = with_words(LANE, [])
    plan.track = read_track("sotu")
    one = Source("sotu", "0", "", 1, "", 1, "")
    plan.track.sources = {"kjv": one, "web": one}
    plan.data = Data(order="staged")
    check_data(plan)
    plan.data = Data(order="staged", sources=["web"])
    with pytest.raises(UserError, match="staged of one source"):
        check_data(plan)
    plan.data = Data(order="staged", weights=[1.0, 0.0])
    with pytest.raises(UserError, match="staged of one source by its weight"):
        check_data(plan)
    plan.data = Data(weights=[1.0])
    with pytest.raises(UserError, match="1 weights for 2 sources: kjv, web") as error:
        check_data(plan)
    assert error.value.remedy.startswith("give 2")


@pytest.mark.parametrize("weight", [-1.0, float("nan"), float("inf")])
def test_a_weight_of_a_track_is_a_finite_number_from_0_on(weight):
    plan = with_words(LANE, [])
    plan.track = read_track("sotu")
    plan.track.sources = {"kjv": Source("sotu", "0", "", 1, "", 1, ""), "web": Source("sotu", "0", "", 1, "", 1, "", weight)}
    with pytest.raises(UserError, match="track.sources.web.weight=") as error:
        check_data(plan)
    assert "finite" in error.value.remedy


def test_where_grades_lie_changes_no_hash_but_what_they_are_does():
    words = ["data.quality=a.jsonl", f"data.quality_sha256={HASH}", "data.quality_keep=0.8"]
    hashes = [
        plan_hash(with_words(LANE, words)),
        plan_hash(with_words(LANE, ["data.quality=b.jsonl", *words[1:]])),
        plan_hash(with_words(LANE, [words[0], f"data.quality_sha256={'1' * 64}", words[2]])),
        plan_hash(LANE),
    ]
    assert hashes[0] == hashes[1] and len(set(hashes)) == 3
