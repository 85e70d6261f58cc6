"""WikiText as lm-evaluation-harness counts it: pages, detokenization, rolling windows, units."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from harness.errors import UserError
from harness.evaluate import rolling, wikitext
from harness.evaluate.wikitext import NAME, SHA256, count_words, detokenize, pages, raw_text

END = 256
BYTES = SimpleNamespace(encode=lambda text: list(text.encode()), end_of_text=END)
TEXT = (
    " \n = First = \n \n A page , of two lines . \n\n = = Section = = \n \n More @-@ or @-@ less \n"
    " = Second ( a film ) = \n \n Its ' text ' . \n \n"
)


class Uniform:
    context, vocab_size = 8, 257

    def score(self, input_BS, target_BS, position_BS=None, visible_BSS=None):
        return torch.full(input_BS.shape, math.log(self.vocab_size)), torch.zeros(input_BS.shape, dtype=torch.bool)


class Digest:
    """A causal model whose answer gives away everything it has seen: the inputs so far, their order, and the target."""

    vocab_size = 257

    def __init__(self, context):
        self.context = context

    @staticmethod
    def nats(seen, target):
        state = 7
        for token in [*seen, target]:
            state = (state * 31 + token + 1) % 10007
        return state / 10007

    def score(self, input_BS, target_BS, position_BS=None, visible_BSS=None):
        assert input_BS.shape == target_BS.shape and input_BS.shape[1] <= self.context
        rows = zip(input_BS.tolist(), target_BS.tolist())
        nats = [[self.nats(row[: i + 1], target) for i, target in enumerate(targets)] for row, targets in rows]
        return torch.tensor(nats), torch.zeros(input_BS.shape, dtype=torch.bool)


def rolling_nats(model, texts, batch_tokens=4096, **words):
    """As one rank alone finds them."""
    return rolling.total([rolling.share(model, texts, END, batch_tokens, **words)], len(texts))


def scored(model, tokenizer, text):
    return wikitext.merge([wikitext.share(model, tokenizer, text)], model.context)


def seen_before(tokens, i, context):
    """What the task shows the model before token i: a window's worth at most, more than its window's only in the last one."""
    start = i // context * context
    stop = min(start + context, len(tokens))
    return [END, *tokens][max(0, stop - context) : i + 1]


@pytest.mark.parametrize("length", [0, 1, 4, 5, 6, 9, 10, 11, 23])
@pytest.mark.parametrize("batch_tokens", [1, 10, 4096])
def test_each_token_is_scored_once_given_what_the_task_shows_the_model(length, batch_tokens):
    model, texts = Digest(5), [list(range(3)), list(range(100, 100 + length)), list(range(7))]
    expected = [sum(model.nats(seen_before(text, i, 5), token) for i, token in enumerate(text)) for text in texts]
    np.testing.assert_allclose(rolling_nats(model, texts, batch_tokens), expected, rtol=1e-6)


def test_the_last_window_reaches_back_to_a_full_input():
    tokens = list(range(12))
    added = rolling_nats(Digest(5), [tokens])[0] - rolling_nats(Digest(5), [tokens[:10]])[0]
    assert added == pytest.approx(Digest.nats([6, 7, 8, 9], 10) + Digest.nats([6, 7, 8, 9, 10], 11), rel=1e-6)


def test_a_model_that_knows_nothing_scores_the_logarithm_of_its_vocabulary_per_token():
    found = scored(Uniform(), BYTES, TEXT)
    detokenized = [detokenize(page) for page in pages(TEXT)]
    assert found.tokens_P.tolist() == [len(page) for page in detokenized]
    np.testing.assert_allclose(found.nats_P, found.tokens_P * math.log(257), rtol=1e-7)
    expected = found.tokens_P.sum() * math.log2(257) / sum(len(page.encode()) for page in pages(TEXT))
    assert found.bits_per_byte == pytest.approx(expected, rel=1e-7)


def test_the_three_figures_divide_the_same_nats_by_raw_bytes_and_raw_words():
    found = scored(Digest(16), BYTES, TEXT)
    nats, raw = found.nats_P.sum(), pages(TEXT)
    assert found.byte_perplexity == pytest.approx(2**found.bits_per_byte)
    assert found.bits_per_byte == pytest.approx(nats / sum(len(page.encode()) for page in raw) / math.log(2))
    assert found.word_perplexity == pytest.approx(math.exp(nats / sum(map(count_words, raw))))
    assert found.tokens_P.sum() < found.bytes_P.sum()  # detokenized text is shorter: dividing by it would be another figure


def test_a_word_perplexity_beyond_floats_is_infinite_and_the_others_stand():
    class Hopeless(Uniform):
        def score(self, input_BS, *_):
            return torch.full(input_BS.shape, 500.0), None

    found = scored(Hopeless(), BYTES, TEXT)
    assert found.word_perplexity == math.inf and found.bits_per_byte > 500


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_nats_that_are_not_finite_are_an_error_not_a_score(value):
    class Broken(Uniform):
        def score(self, input_BS, *_):
            nats_BS, hit_BS = super().score(input_BS, input_BS)
            nats_BS[-1, -1] = value
            return nats_BS, hit_BS

    with pytest.raises(UserError, match=f"gives text 1 {value}"):
        scored(Broken(), BYTES, TEXT)


def test_progress_counts_windows_up_to_all_of_them():
    seen = []
    rolling_nats(Uniform(), [[1] * 20, [2] * 3], 16, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(2, 4), (4, 4)]


def test_pages_begin_at_top_level_headings_only():
    first, second = pages(TEXT)
    assert first.startswith(" = First = \n") and " = = Section = = " in first
    assert second.startswith(" = Second ( a film ) = \n") and second.endswith(" . \n \n")


def test_all_but_a_blank_start_and_the_newline_between_pages_belongs_to_a_page():
    assert len(TEXT) - sum(map(len, pages(TEXT))) == len(" \n") + 1
    assert pages("before\n = A = \n") == ["before", " = A = \n"]


@pytest.mark.parametrize("line", [" = A = ", "= A =", " = a = b = ", " = 1 rad / s and k = "])
def test_one_equals_sign_on_each_side_is_a_top_level_heading(line):
    assert pages(f"x\n{line}\ny") == ["x", f"{line}\ny"]


@pytest.mark.parametrize(
    "line", [" = = A = = ", " = = = A = = = ", "=A=", " = A", "A = ", " = ", " = = ", " = = A = ", " = A = = "]
)
def test_other_lines_are_no_top_level_heading(line):
    assert pages(f"x\n{line}\ny") == [f"x\n{line}\ny"]


@pytest.mark.parametrize(
    "raw, typed",
    [
        ("the dogs ' tails", "the dogs' tails"),
        ("guest @-@ starring , 1 @,@ 000 and 2 @.@ 5 m", "guest-starring, 1,000 and 2.5 m"),
        ("so : this ; that . Stop ! Really ? Yes", "so: this; that. Stop! Really? Yes"),
        ("( a film ) and [ sic ] and { x }", "(a film) and [sic] and {x}"),
        ('called " The Bill " twice', 'called "The Bill" twice'),
        ("a ' quoted ' word", "a 'quoted' word"),
        (" = Head = \n = = Sub = = \n = = = = Deep = = = = \n", " = Head =\n== Sub ==\n==== Deep ====\n"),
        (f"10 {chr(176)} C", f"10{chr(176)}C"),
        ("end . \n \n Next", "end.\n\nNext"),
        ("in N days", "in 1 days"),
        ("Kirby 's ball", "Kirby's ball"),
        ("( nested ( once ) )", "(nested ( once) )"),
        ("/' 5/", "/'[0-9]/"),
    ],
)
def test_detokenization_takes_the_added_spaces_back(raw, typed):
    assert detokenize(raw) == typed


def test_words_are_counted_with_the_empty_ones_at_the_ends():
    assert [count_words(page) for page in ("a b", " a b \n", "")] == [2, 4, 1]


def test_a_missing_text_names_the_file_and_the_mirror_variable(tmp_path, monkeypatch):
    monkeypatch.setenv("SPEEDRUN_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("SPEEDRUN_MIRROR", raising=False)
    with pytest.raises(UserError, match="SPEEDRUN_MIRROR") as caught:
        raw_text()
    assert NAME in str(caught.value)


def test_another_text_under_the_same_name_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("SPEEDRUN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("SPEEDRUN_MIRROR", str(tmp_path))
    (tmp_path / NAME).parent.mkdir(parents=True)
    (tmp_path / NAME).write_text(TEXT)
    with pytest.raises(UserError, match=SHA256):
        raw_text()
