"""What `data.*` makes of documents: each dial by itself, and that none moves what another one chooses."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.data import grades
from harness.data.batches import Batches
from harness.data.draws import Draws
from harness.data.mixed import batches_of
from harness.data.texts.document import SEPARATOR, Document, joined, passages
from harness.data.turned import turned, turns, ungraded, with_weights
from harness.errors import UserError
from harness.plan.schema import Data
from harness.plan.steps import Steps
from harness.plan.track import Source

KINDS = ["boilerplate", "shuffled_words", "random_bytes", "other_language", "duplicated"]
WORDS = [b"the", b"people", b"of", b"united", b"states", b"congress", b"a", b"more", b"perfect", b"union"]


def source(name: str, count: int = 200, least: int = 40, most: int = 90) -> list[Document]:
    """Documents of random words, too short to be cut into passages, with keys that all sources share."""
    found = []
    for number in range(count):
        draws = Draws(7, name, number)
        words = [b"%d" % number] + [draws.one_of(WORDS) for _ in range(draws.between(least, most))]
        found.append(Document(str(number), b" ".join(words)))
    return found


ONE = {"one": source("one")}
TWO = {"one": source("one"), "two": source("two", 150)}


def of(data: Data, texts=ONE, seed: int = 1, budget: int = 4096, length: int = 16):
    return turned(data, texts, seed, budget, length)


def replaced(data: Data, texts=ONE, seed: int = 1) -> dict[str, str]:
    """By key of source `one`: the noise that stands there."""
    return {document.key: document.noise for document in ungraded(data, texts, seed)[0]["one"] if document.noise}


def test_nothing_is_turned_by_default_nor_by_noise_that_is_scored_alone():
    assert not turns(Data())
    assert not turns(Data(noise=KINDS))
    assert turns(Data(noise=KINDS, noise_share=0.1))
    for word in ({"deduplicate": True}, {"epochs": 1}, {"order": "staged"}, {"sources": ["one"]}, {"weights": [1.0]}):
        assert turns(Data(**word)), word


def test_the_weights_of_a_track_hold_where_the_plan_has_none():
    heavy, light, none = (Source("sotu", "1", "", 9, "", 9, "", weight) for weight in (3.0, 1.0, 0.0))
    of_track = {"one": heavy, "two": light}
    assert with_weights(Data(), of_track).weights == [3.0, 1.0]
    assert with_weights(Data(sources=["two", "one"]), of_track).weights == [1.0, 3.0]
    assert with_weights(Data(weights=[1.0, 1.0]), of_track).weights == [1.0, 1.0]
    assert not turns(with_weights(Data(), {"one": none, "two": none}))


@pytest.mark.parametrize("share", [0.0, 0.05, 0.2, 0.5, 1.0])
@pytest.mark.parametrize("kinds", [KINDS[:1], KINDS[4:], KINDS], ids=len)
@given(seed=st.integers(0, 9))
def test_the_share_of_noise_is_met_to_half_a_passage(share, kinds, seed):
    (documents,) = ungraded(Data(noise=kinds, noise_share=share), ONE, seed)[0].values()
    noise = sum(len(document.text) for document in documents if document.noise)
    total = sum(len(document.text) for document in documents)
    assert abs(noise - share * total) <= max(len(document.text) for document in documents)
    assert len(documents) == 200 and [document.key for document in documents] == [document.key for document in ONE["one"]]


@given(seed=st.integers(0, 9), share=st.floats(0, 1))
def test_kinds_come_in_equal_numbers(seed, share):
    counts = Counter(replaced(Data(noise=KINDS, noise_share=share), seed=seed).values())
    assert max(counts.values(), default=0) - min((counts[kind] for kind in KINDS), default=0) <= 1


def test_more_noise_is_planted_beside_what_less_of_it_plants():
    few, many = (replaced(Data(noise=KINDS, noise_share=share)) for share in (0.1, 0.4))
    assert 0 < len(few) < len(many) and few.items() <= many.items()


def test_another_seed_replaces_other_documents():
    one, two = (replaced(Data(noise=KINDS[:1], noise_share=0.2), seed=seed) for seed in (1, 2))
    assert one.keys() != two.keys()


def test_what_noise_replaces_depends_on_no_other_dial():
    noise = {"noise": KINDS[:4], "noise_share": 0.3}
    plain = replaced(Data(**noise))
    assert replaced(Data(**noise, deduplicate=True)) == plain
    assert replaced(Data(**noise, order="staged", epochs=3)) == plain
    assert replaced(Data(**noise, sources=["one"]), TWO) == replaced(Data(**noise, weights=[1.0, 3.0]), TWO) == plain


def test_epochs_choose_the_same_documents_with_noise_and_without_and_fewer_passes_choose_more():
    budget = 20000
    chosen = {}
    for epochs in (2, 4, 8):
        for noise in ({}, {"noise": KINDS[:2], "noise_share": 0.3}):
            text = of(Data(epochs=epochs, **noise), budget=budget).strands[0].text.tobytes()
            whole = text.split(SEPARATOR)
            chosen[epochs, bool(noise)] = {places for places, d in enumerate(ONE["one"]) if d.text in whole}
        assert chosen[epochs, True] < chosen[epochs, False]  # noise in the place of some
    assert chosen[8, False] < chosen[4, False] < chosen[2, False]


def test_of_equal_documents_the_first_one_stays():
    found = of(Data(noise=["duplicated"], noise_share=0.5, deduplicate=True))
    texts = found.strands[0].text.tobytes().split(SEPARATOR)
    assert len(texts) == len(set(texts)) == found.facts["kept"]
    planted = ungraded(Data(noise=["duplicated"], noise_share=0.5), ONE, 1)[0]["one"]
    first = list(dict.fromkeys(document.text for document in planted))
    assert texts == first
    assert found.facts["duplicates"] == len(planted) - len(first) > 50


def test_duplicates_are_found_across_sources():
    twice = {"one": ONE["one"], "two": ONE["one"]}
    found = of(Data(deduplicate=True), twice)
    assert (found.facts["documents"], found.facts["duplicates"], found.facts["kept"]) == (400, 200, 200)
    assert found.strands[0].text.tobytes() == joined(ONE["one"])


def test_what_no_dial_changes_stands_as_it_stood():
    found = of(Data(weights=[1.0]))
    assert found.strands[0].text.tobytes() == joined(ONE["one"])
    mixed = of(Data(weights=[1.0, 2.0]), TWO)
    assert [strand.text.tobytes() for strand in mixed.strands] == [joined(documents) for documents in TWO.values()]
    assert [strand.share for strand in mixed.strands] == [1 / 3, 2 / 3]


def test_a_source_of_weight_0_is_not_read_and_not_counted():
    found = of(Data(weights=[0.0, 2.0], epochs=2), TWO)
    assert [strand.name for strand in found.strands] == ["two"]
    assert found.facts["documents"] == 150


@given(
    epochs=st.integers(1, 9), length=st.integers(3, 40), sequences=st.integers(9, 300), seed=st.integers(0, 99),
    count=st.integers(1, 2),
)  # fmt: skip
def test_train_is_cut_to_the_windows_of_one_pass_and_each_is_seen_once_a_pass(epochs, length, sequences, seed, count):
    texts, budget = dict(list(TWO.items())[:count]), sequences * length
    try:
        found = of(Data(epochs=epochs), texts, seed, budget, length)
    except UserError as error:
        assert "a pass of data.epochs" in error.problem and budget / epochs > 40 * 200
        return
    (strand,) = found.strands
    windows = sequences // epochs
    assert 0 <= len(strand.text) - (windows + 1) * length <= 2
    batches = Batches(np.arange(len(strand.text)), seed, Steps.even(length), length)  # tokens that are their own position
    starts = [int(batches.batch(step)[0][0, 0]) for step in range(sequences)]
    for number in range(epochs):
        one_pass = sorted(starts[number * windows : (number + 1) * windows])
        assert one_pass == list(range(one_pass[0], one_pass[0] + windows * length, length))  # every window, none twice


def test_one_pass_repeats_nothing_and_four_read_what_they_read_four_times():
    length, budget = 16, 16 * 128
    for epochs in (1, 4):
        (strand,) = of(Data(epochs=epochs), budget=budget, length=length).strands
        batches = Batches(np.arange(len(strand.text)), 1, Steps.even(length), length)
        seen = Counter(int(token) for step in range(budget // length) for token in batches.batch(step)[0][0])
        inner = [seen[place] for place in range(length, len(strand.text) - length)]
        assert set(inner) == {epochs}
        assert max(seen.values()) == epochs


def test_passages_of_a_chosen_key_are_taken_of_all_sources():
    found = of(Data(epochs=4), TWO, budget=16 * 4 * 1000)
    texts = found.strands[0].text.tobytes().split(SEPARATOR)
    keys = [{d.key for d in documents if d.text in texts} for documents in TWO.values()]
    both = {document.key for document in TWO["two"]}
    assert len(keys[1]) > 5 and len((keys[0] & both) ^ keys[1]) <= 1  # all but the one that is cut


@given(weights=st.tuples(st.integers(1, 5), st.integers(1, 5)), epochs=st.integers(1, 4))
def test_with_weights_each_source_is_cut_to_its_own_pass(weights, epochs):
    budget, length = 16 * 300, 16
    found = of(Data(weights=list(map(float, weights)), epochs=epochs), TWO, budget=budget, length=length)
    for strand, weight in zip(found.strands, weights):
        windows = round(budget * weight / sum(weights)) // length // epochs
        assert 0 <= len(strand.text) - (windows + 1) * length <= 2


def test_staged_is_noise_first_and_then_source_after_source():
    found = of(Data(order="staged", noise=KINDS[:2], noise_share=0.25), TWO)
    assert [strand.name for strand in found.strands] == ["noise", "one", "two"] and found.staged
    assert sum(strand.share for strand in found.strands) == pytest.approx(1)
    assert found.strands[0].share == pytest.approx(0.25, abs=0.02)
    for strand, documents in zip(found.strands[1:], TWO.values()):
        assert set(strand.text.tobytes().split(SEPARATOR)) < {document.text for document in documents}


def test_the_facts_are_those_of_what_is_read():
    found = of(Data(noise=KINDS, noise_share=0.3, epochs=2), budget=8000)
    facts, strand = found.facts, found.strands[0]
    assert facts["read_bytes"] == len(strand.text) and facts["shares"] == {"all": 1.0}
    texts = strand.text.tobytes().split(SEPARATOR)
    assert facts["documents"] == 200 and 0 < facts["kept"] < 200
    planted = {d.text for d in ungraded(Data(noise=KINDS, noise_share=0.3), ONE, 1)[0]["one"] if d.noise}
    assert 0 < facts["noise_bytes"] and facts["noise_bytes"] >= sum(len(text) for text in texts if text in planted)
    assert "duplicates" not in facts and "graded_out" not in facts


def graded(tmp_path, texts=ONE, seed: int = 1, grade=len, **words) -> dict:
    """Dials of a file of grades of these documents as `words` make them."""
    of_source = ungraded(Data(**words), texts, seed)[0]
    content = "".join(grades.line(name, d, grade(d.text)) for name, some in of_source.items() for d in some)
    path = tmp_path / "grades.jsonl"
    path.write_text(content)
    return {"quality": str(path), "quality_sha256": grades.hashlib.sha256(content.encode()).hexdigest(), **words}


def test_the_worst_graded_go_until_their_share_of_the_bytes_is_gone(tmp_path):
    found = of(Data(**graded(tmp_path), quality_keep=0.8))
    texts = found.strands[0].text.tobytes().split(SEPARATOR)
    dropped = [document.text for document in ONE["one"] if document.text not in texts]
    assert max(map(len, dropped)) <= min(map(len, texts))  # more is better
    assert [d.text for d in ONE["one"] if d.text in texts] == texts
    total = len(joined(ONE["one"])) - 2 * 199
    assert abs(sum(map(len, texts)) - 0.8 * total) < 300
    assert found.facts["graded_out"] == len(dropped) and found.facts["kept"] == len(texts)


def test_grades_are_of_noise_and_of_what_deduplication_leaves(tmp_path):
    words = {"noise": ["random_bytes", "duplicated"], "noise_share": 0.3, "deduplicate": True}
    asked = graded(tmp_path, grade=lambda text: float(max(text) < 128), **words)
    found = of(Data(**asked, quality_keep=0.8))
    assert max(found.strands[0].text) < 128 and found.facts["graded_out"] > 20


def test_a_train_of_nothing_is_refused(tmp_path):
    with pytest.raises(UserError, match="nothing is left of train"):
        of(Data(**graded(tmp_path), quality_keep=0.0))


def test_a_source_that_is_not_there_is_refused():
    with pytest.raises(UserError, match="data.sources names 'three'") as error:
        of(Data(sources=["three"]), TWO)
    assert error.value.remedy == "it has one, two"


def test_more_epochs_than_a_source_has_sequences_are_refused():
    with pytest.raises(UserError, match=r"data.epochs=20 of budget.tokens=256, in which one has 16 sequences of 16") as error:
        of(Data(epochs=20), budget=256)
    assert error.value.remedy == "choose at most 16 epochs"
    with pytest.raises(UserError, match="in which one has 0 sequences") as error:
        of(Data(epochs=1, weights=[1.0, 99.0]), TWO, budget=256)
    assert "leave that source out" in error.value.remedy


def test_a_pass_that_train_cannot_fill_is_refused_with_what_there_is():
    size = len(joined(ONE["one"]))
    with pytest.raises(UserError, match=f"takes 160,016 bytes of train, and one has {size:,}") as error:
        of(Data(epochs=1), budget=160_000)
    assert "choose more epochs" in error.value.remedy


def test_a_plan_that_turns_one_strand_is_read_as_a_train_of_its_own():
    found = of(Data(deduplicate=True))
    assert isinstance(batches_of(found, 1, Steps.even(64), 16), Batches)


@given(text=st.binary(max_size=200).map(lambda text: text.replace(b"\xff", SEPARATOR) * 40))
def test_passages_joined_are_the_document(text):
    parts = list(passages(Document("a", text)))
    assert joined(parts) == text
    assert len({part.key for part in parts}) == len(parts)
