"""What graders say of documents, and how well grades part planted noise from the rest."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.data.draws import Draws
from harness.data.grader import graded
from harness.data.noise import noisy
from harness.data.planted import auc
from harness.data.texts.document import Document
from harness.plan import parts

GRADERS = parts.names("grader")
ODD = st.lists(st.one_of(st.just(b""), st.binary(max_size=60), st.just(b"the same words again " * 5)), min_size=1, max_size=9)
SUBJECTS, VERBS = b"people congress union president army treasury".split(), b"must should may will cannot".split()
DEEDS = b"raise keep pay defend abolish consider".split()
THINGS = b"taxes armies states banks lands peace commerce treaties".split()


def sentence(draws: Draws) -> bytes:
    return b"the %s of this nation %s %s its %s in the year %d." % (
        *map(draws.one_of, (SUBJECTS, VERBS, DEEDS, THINGS)), draws.between(1000, 1999),
    )  # fmt: skip


def clean(count: int) -> list[Document]:
    """Documents of a dozen sentences that a grammar gives."""
    draws = Draws(1, "clean")
    return [Document(str(number), b" ".join(sentence(draws) for _ in range(12))) for number in range(count)]


def with_noise(kind: str, count: int = 120) -> tuple[list[bytes], np.ndarray]:
    """Texts, every fifth of them noise, and which are."""
    documents = clean(count)
    is_noise = np.arange(count) % 5 == 0
    return [noisy(kind, d, documents, 1).text if bad else d.text for d, bad in zip(documents, is_noise)], is_noise


@pytest.mark.parametrize("name", GRADERS)
@given(texts=ODD)
def test_a_grader_grades_whatever_bytes_there_are(name, texts):
    assert graded(name, texts).shape == (len(texts),)
    assert (graded(name, texts) == graded(name, list(texts))).all()


FINDS = [
    ("compression", "random_bytes"), ("compression", "other_language"), ("compression", "boilerplate"),
    ("perplexity", "random_bytes"), ("perplexity", "other_language"), ("perplexity", "shuffled_words"),
    ("repetition", "duplicated"), ("repetition", "boilerplate"),
    *(("worst_rank", kind) for kind in parts.names("noise")),
]  # fmt: skip


@pytest.mark.parametrize("name, kind", FINDS)
def test_a_grader_finds_the_noise_that_it_is_made_for(name, kind):
    texts, is_noise = with_noise(kind)
    found = graded(name, texts)
    assert auc(found[~is_noise], found[is_noise]).value > 0.85


def test_perplexity_takes_what_is_repeated_elsewhere_for_the_best():
    texts, is_noise = with_noise("duplicated")
    found = graded("perplexity", texts)
    assert auc(found[~is_noise], found[is_noise]).value < 0.3


def test_repetition_counts_sequences_within_a_document_and_over_documents():
    eight = b"one two three four five six seven eight"
    own = b"a b c d e f g h i j k l m n o p"
    assert graded("repetition", [eight, own, b"few words"]).tolist() == [0, 0, 0]
    assert graded("repetition", [eight, eight.upper(), own]).tolist() == [-1, -1, 0]
    assert graded("repetition", [own + b" a b c d e f g h"])[0] == pytest.approx(-2 / 17)
    halves = [b"one two three four", b"five six seven eight", eight]
    assert graded("repetition", halves).tolist() == [0, 0, 0]  # no sequence runs from one document into the next


def test_an_empty_document_is_among_the_worst_of_those_that_measure_its_bytes():
    texts = [document.text for document in clean(20)] + [b""]
    for name in ("compression", "perplexity"):
        assert graded(name, texts)[-1] == graded(name, texts).min()


def test_the_worst_rank_is_the_lowest_of_the_three():
    texts, _ = with_noise("boilerplate", 20)
    grades = [graded(name, texts) for name in ("compression", "perplexity", "repetition")]
    ranks = [[(found < one).sum() + ((found == one).sum() + 1) / 2 for one in found] for found in grades]
    assert graded("worst_rank", texts) == pytest.approx(np.min(ranks, axis=0) / 20)


def by_pairs(clean, noise) -> float:
    return np.mean([(a > b) + (a == b) / 2 for a in clean for b in noise])


values = st.lists(st.integers(-3, 3).map(float), min_size=1, max_size=12)


@given(clean=values, noise=values)
def test_auc_is_the_share_of_pairs_in_order_ties_half(clean, noise):
    found = auc(clean, noise)
    assert found.value == pytest.approx(by_pairs(clean, noise))
    assert 0 <= found.low <= found.high <= 1
    assert auc(noise, clean).value == pytest.approx(1 - found.value)


def test_the_interval_holds_the_truth_about_as_often_as_it_says():
    rng = np.random.default_rng(1)
    held = 0
    for _ in range(60):
        found = auc(rng.normal(1, 1, 60), rng.normal(0, 1, 40))  # the truth is Phi(1 / sqrt(2))
        held += found.low <= 0.7602 <= found.high
    assert held >= 51  # of 60, at 95%: fewer has a probability of 0.002


def test_more_documents_make_a_narrower_interval_and_a_perfect_grader_has_none():
    rng = np.random.default_rng(2)
    few, many = (auc(rng.normal(1, 1, size), rng.normal(0, 1, size)) for size in (20, 500))
    assert many.high - many.low < (few.high - few.low) / 2
    assert str(auc([2.0, 3.0], [0.0, 1.0])) == "1.000 (1.000 to 1.000)"
