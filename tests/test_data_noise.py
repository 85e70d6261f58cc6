import re
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.data.draws import Draws
from harness.data.noise import duplicated, noisy
from harness.data.noise.boilerplate import SLOTS, TEMPLATES
from harness.data.noise.other_language import BECOME, LETTERS
from harness.data.texts.document import Document
from harness.plan import parts

KINDS = parts.names("noise")
AS_LONG = [kind for kind in KINDS if kind != "duplicated"]
DRAWN = [kind for kind in KINDS if kind != "other_language"]  # which is one fixed cipher
TEXT = b"We the People of the United States, in Order to form a more perfect Union, establish Justice.\n" * 20
ODD = st.one_of(st.just(b""), st.binary(max_size=400), st.text("ab \n\tXY.\u00e9", max_size=200).map(str.encode))


def made(kind: str, text: bytes = TEXT, key: str = "one", seed: int = 1, others: tuple[Document, ...] = ()) -> bytes:
    document = Document(key, text)
    return noisy(kind, document, others or (document,), seed).text


def test_the_kinds_are_those_that_the_plan_may_name():
    assert KINDS == ("boilerplate", "duplicated", "other_language", "random_bytes", "shuffled_words")


@pytest.mark.parametrize("kind", AS_LONG)
@given(text=ODD)
def test_noise_is_as_long_as_what_it_replaces_whatever_that_is(kind, text):
    assert len(made(kind, text)) == len(text)


@pytest.mark.parametrize("kind", KINDS)
@given(text=ODD, seed=st.integers(0, 5))
def test_noise_is_a_function_of_seed_and_key(kind, text, seed):
    assert made(kind, text, seed=seed) == made(kind, text, seed=seed)


@pytest.mark.parametrize("kind", DRAWN)
def test_other_keys_and_other_seeds_make_other_noise(kind):
    others = tuple(Document(str(i), b"passage %d" % i) for i in range(100))
    by_key = {made(kind, key=str(i), others=others) for i in range(100)}
    by_seed = {made(kind, seed=i, others=others) for i in range(100)}
    assert len(by_key) == len(by_seed) == (duplicated.COPIED if kind == "duplicated" else 100)


def test_noise_says_what_it_is_and_keeps_the_key():
    found = noisy("random_bytes", Document("a#1", b"text"), (), 1)
    assert (found.key, found.noise) == ("a#1", "random_bytes")


@given(text=ODD)
def test_shuffled_words_are_the_same_words_and_white_space_stays_in_its_place(text):
    found = made("shuffled_words", text)
    assert Counter(found.split()) == Counter(text.split())
    assert re.findall(rb"\s+", found) == re.findall(rb"\s+", text)


def test_shuffled_words_are_in_another_order():
    assert made("shuffled_words") != TEXT


def test_other_language_maps_letters_one_to_one_and_leaves_none_in_its_place():
    assert sorted(BECOME) == sorted(LETTERS)
    assert all(a != b for a, b in zip(LETTERS, BECOME))


@given(text=ODD)
def test_other_language_keeps_case_and_all_but_letters(text):
    found = made("other_language", text)
    for before, after in zip(text, found):
        was, became = bytes([before]), bytes([after])
        assert (was.isupper(), was.islower()) == (became.isupper(), became.islower())
        assert was.isalpha() or was == became
    assert len(set(found)) == len(set(text))


@given(count=st.integers(1, 40), keys=st.sets(st.text(max_size=5), min_size=1, max_size=50))
def test_duplicates_are_whole_passages_of_a_few(count, keys):
    others = tuple(Document(str(i), b"passage %d" % i) for i in range(count))
    found = {made("duplicated", key=key, others=others) for key in keys}
    assert found <= {document.text for document in others}
    assert len(found) <= duplicated.COPIED


def test_the_same_passages_are_copied_whatever_the_seed():
    others = tuple(Document(str(i), b"passage %d" % i) for i in range(100))
    one, two = ({made("duplicated", key=str(i), seed=seed, others=others) for i in range(99)} for seed in (1, 2))
    assert one == two


def test_boilerplate_repeats_over_documents():
    lines = Counter(line for i in range(50) for line in set(made("boilerplate", key=str(i)).splitlines()))
    assert lines.most_common(1)[0][1] > 30


def test_every_slot_of_a_template_can_be_filled():
    assert {slot for template in TEMPLATES for slot in re.findall(r"\{(\w+)\}", template)} == SLOTS.keys()


def test_random_bytes_are_evenly_spread():
    counts = np.bincount(np.frombuffer(made("random_bytes", bytes(1 << 16)), np.uint8), minlength=256)
    assert abs(counts - 256).max() < 6 * 16  # six standard deviations


def test_a_word_is_drawn_from_nothing_but_the_draws():
    draws = [Draws(3, "noise", "boilerplate", "k") for _ in range(2)]
    assert len({parts.part("noise", "boilerplate")(TEXT, (), each) for each in draws}) == 1
