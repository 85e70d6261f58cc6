"""Single requests about text: their bits depend on nothing else that is asked; a text's nats are those of the rolling score."""

import math
from types import SimpleNamespace

import micro
import numpy as np
import pytest
import torch
from micro import finished_fixture  # noqa: F401
from small_tokens import END, small_tokenizer
from test_evaluate_wikitext import Digest, seen_before

from harness.data.tokenizer import TOKENIZERS
from harness.errors import UserError
from harness.evaluate import rolling, wikitext
from harness.evaluate.own_model import OwnModel
from harness.evaluate.requests import coding, continuation, whole_text, writes
from harness.launch.run_model import load_run_model
from harness.verbs.sample import continue_text

BYTES = coding("")
TEXT = (micro.ROOT / "LICENSE").read_text()[:1500]
PAGES = " = First = \n \n A page , of two lines . \n = Second = \n \n Another , which is longer than the window is . \n"


@pytest.fixture(scope="module", params=["moe", "dense"])
def model(finished, request):
    return load_run_model(finished(request.param))


@pytest.mark.parametrize("before, length", [(1, 0), (1, 4), (1, 5), (1, 12), (3, 2), (3, 3), (9, 1), (9, 5), (9, 11), (2, 23)])
def test_a_continuation_is_scored_once_given_as_much_before_it_as_the_model_reads(before, length):
    context, tokens = list(range(before)), list(range(100, 100 + length))
    stream, expected = [*context, *tokens], 0.0
    for i in range(length):
        stop = min(i // 5 * 5 + 5, length)  # windows of five targets follow one another
        expected += Digest.nats(stream[max(0, before + stop - 6) : before + i], stream[before + i])
    assert continuation(Digest(5), context, tokens)[0] == pytest.approx(-expected, rel=1e-6)


def test_after_one_token_a_continuation_has_the_windows_of_a_whole_text():
    tokens = list(range(13))
    expected = sum(Digest.nats([*seen_before(tokens, i, 5)], tokens[i]) for i in range(13))
    assert continuation(Digest(5), [256], tokens)[0] == pytest.approx(-expected, rel=1e-6)


def test_a_continuation_is_the_likeliest_only_where_each_of_its_tokens_is(model):
    own, context = OwnModel(model), list(b"The state of the Union is what ")
    best = list(continue_text(model, bytes(context), 3, 0, 1)[len(context) :])
    assert continuation(own, context, best)[1]
    for place in range(3):
        other = [token ^ 1 if i == place else token for i, token in enumerate(best)]
        assert not continuation(own, context, other)[1]


@pytest.mark.parametrize("length", [5, 33, 400, 1500])
def test_a_whole_text_has_the_bits_of_the_rolling_score(model, length):
    tokens, own = list(TEXT[:length].encode()), OwnModel(model)
    expected = rolling.total([rolling.share(own, [tokens], BYTES.first)], 1)[0]
    assert whole_text(own, tokens, BYTES.first) == -expected


def test_the_pages_of_wikitext_have_the_nats_of_our_own_score_of_it(model):
    own = OwnModel(model)
    tokenizer = SimpleNamespace(encode=BYTES.encode, end_of_text=BYTES.first)
    expected = wikitext.merge([wikitext.share(own, tokenizer, PAGES)], own.context).nats_P
    texts = [BYTES.encode(wikitext.detokenize(page)) for page in wikitext.pages(PAGES)]
    np.testing.assert_allclose([-whole_text(own, text, BYTES.first) for text in texts], expected, rtol=1e-6)


def test_an_answer_depends_on_no_other_request_and_no_order(model):
    asked = [("A word about ", {"max_gen_toks": 8}), ("B", {"max_gen_toks": 5, "do_sample": True}), ("", {"max_gen_toks": 3})]
    together = list(writes(model, BYTES, asked))
    assert list(writes(model, BYTES, asked[::-1])) == together[::-1]
    assert [text for one in asked for text in writes(model, BYTES, [one])] == together


def test_what_is_written_greedily_is_what_sample_writes_and_ends_before_a_stop(model):
    whole = continue_text(model, b"The state of ", 40, 0, 1)[13:].decode(errors="replace")
    assert list(writes(model, BYTES, [("The state of ", {"max_gen_toks": 40})])) == [whole]
    for stop in (whole[5:7], whole[-1]):
        (found,) = writes(model, BYTES, [("The state of ", {"until": [stop, "\0"], "max_new_tokens": 40, "temperature": 0.0})])
        assert found == whole[: whole.find(stop)]


def test_a_context_that_is_asked_twice_is_answered_anew_where_it_is_sampled(model):
    asked = [("The ", {"do_sample": True, "temperature": 1.0, "max_gen_toks": 30})] * 2
    first, second = writes(model, BYTES, asked)
    assert first != second and list(writes(model, BYTES, asked)) == [first, second]
    greedy = list(writes(model, BYTES, [("The ", {"do_sample": False, "temperature": 1.0, "top_p": 0.9})] * 2))
    assert greedy[0] == greedy[1]


def test_the_end_of_a_text_ends_what_is_written():
    class Ends:
        decodes, shape, embedding = False, SimpleNamespace(sequence_length=9), torch.zeros(1)

        def logits(self, token_BS):
            return torch.nn.functional.one_hot((token_BS + 1) % 5, 8).float()

    code = SimpleNamespace(encode=lambda text: [int(text)], decode=lambda ids: "".join(map(str, ids)), vocab_size=8, last=4)
    assert list(writes(Ends(), code, [("1", {})])) == ["23"]
    assert list(writes(Ends(), code, [("1", {"until": ["3", "23"]})])) == [""]  # before the stop that begins first


@pytest.mark.parametrize("words", [{"num_beams": 4}, {"do_sample": True, "top_p": 0.9}])
def test_another_way_of_writing_is_refused_by_name(model, words):
    with pytest.raises(UserError, match=list(words)[-1]):
        list(writes(model, BYTES, [("a", words)]))


def test_nats_that_are_not_finite_are_an_error_and_no_answer():
    broken = SimpleNamespace(context=4, score=lambda x, y: (torch.full(x.shape, math.nan), torch.zeros(x.shape).bool()))
    with pytest.raises(UserError, match="nan nats"):
        continuation(broken, [1], [2])


def test_bytes_follow_a_newline_and_are_read_back():
    assert BYTES.encode("é\n") == [0xC3, 0xA9, 10] and BYTES.decode([0xC3, 0xA9]) == "é"
    assert (BYTES.first, BYTES.last, BYTES.vocab_size) == (10, None, 256)


def test_tokens_follow_the_end_of_text_and_end_with_it(monkeypatch):
    monkeypatch.setitem(TOKENIZERS, "gpt2", small_tokenizer)
    code = coding("gpt2")
    assert (code.first, code.last, code.vocab_size) == (END, END, END + 1)
    assert code.decode(code.encode("then the tooth")) == "then the tooth" and len(code.encode("then")) < 4
