"""What a model reads and which tokens are scored, against expectations written by hand."""

import random

import core_bundle
import pytest

from harness.errors import UserError
from harness.evaluate.core.prompts import Item, choice, cropped, item, shots, texts
from harness.evaluate.core.tasks import Example, Task

TOKENS = core_bundle.tokenizer()
END = TOKENS.end_of_text


def task(kind, examples, shots=0, delimiter=" "):
    return Task("a task", kind, shots, delimiter, 0.0, 0.0, tuple(examples))


def pick(query, *choices, gold=0):
    return Example(tuple((query, one) for one in choices), gold)


def scored(found):
    """The text of what is scored in each option."""
    return [TOKENS.decode(list(option[start:])) for option, start in zip(found.options, found.starts)]


def test_a_multiple_choice_prompt_is_solved_shots_blank_lines_and_the_item_with_each_choice():
    three = task("multiple_choice", [pick("A?", "no", "yes", gold=1), pick("B?", "b", "c"), pick("C? ", "d", " e", gold=1)], 2,
                 "\nAnswer: ")  # fmt: skip
    assert texts(three, 0) in (
        ["B?\nAnswer: b\n\nC? \nAnswer:  e\n\nA?\nAnswer: no", "B?\nAnswer: b\n\nC? \nAnswer:  e\n\nA?\nAnswer: yes"],
        ["C? \nAnswer:  e\n\nB?\nAnswer: b\n\nA?\nAnswer: no", "C? \nAnswer:  e\n\nB?\nAnswer: b\n\nA?\nAnswer: yes"],
    )


def test_a_schema_prompt_is_each_context_with_the_one_continuation():
    example = Example((("The cat", "ran."), ("A dog", "ran.")), 1)
    assert texts(task("schema", [example, example], 1), 0) == ["A dog ran.\n\nThe cat ran.", "A dog ran.\n\nA dog ran."]


def test_shots_are_drawn_by_the_examples_index_among_all_the_others():
    examples = [pick(f"Q{i}", "a") for i in range(30)]
    for index in (0, 7, 29):
        others = [example for i, example in enumerate(examples) if i != index]
        assert shots(task("multiple_choice", examples, 5), index) == random.Random(1234 + index).sample(others, 5)
    assert shots(task("multiple_choice", examples, 29), 3)  # as many as there are others
    assert shots(task("multiple_choice", examples, 0), 3) == []


def test_multiple_choice_scores_what_follows_the_common_token_prefix():
    found = item(task("multiple_choice", [pick("Q", "ab", "ac", "abd")]), 0, TOKENS)
    assert [option[0] for option in found.options] == [END] * 3 and found.starts == (4, 4, 4)
    assert scored(found) == ["b", "c", "bd"]


def test_the_common_prefix_is_one_of_tokens_not_of_text():
    # " t" and " th" are tokens: "Q ta" and "Q tha" share one character more than they share tokens
    assert scored(item(task("multiple_choice", [pick("Q", "ta", "tha")]), 0, TOKENS)) == [" ta", " tha"]


def test_schema_scores_the_common_token_suffix():
    example = Example((("The cat is", "not to"), ("The dog was", "not to")), 0)
    found = item(task("schema", [example]), 0, TOKENS)
    assert scored(found) == ["s not to"] * 2 and found.starts == (10, 11)
    assert [len(option) for option in found.options] == [16, 17]  # s, space, no, t, " t", o


def test_language_modeling_scores_the_continuation_after_the_prompt_stripped_at_its_end():
    found = item(task("language_modeling", [Example((("say", "this"),), 0)]), 0, TOKENS)
    assert [TOKENS.decode([token]) for token in found.options[0][1:]] == ["s", "a", "y", " th", "i", "s"]
    assert found.starts == (4,) and scored(found) == [" this"]
    answer = item(task("language_modeling", [Example((("say", "x"),), 0)], delimiter="\nAnswer: "), 0, TOKENS)
    assert scored(answer) == [" x"]


def test_a_language_modeling_prompt_that_does_not_begin_its_own_tokens_is_an_error():
    split = task("language_modeling", [Example((("a 1", "1"),), 0)], delimiter="")  # "11" is another token than "1"
    with pytest.raises(UserError, match="a task, example 0"):
        item(split, 0, TOKENS)


def test_cropping_keeps_the_last_tokens_and_what_is_scored():
    long = Item(((END, 1, 2, 3, 4, 5), (END, 1, 2, 3)), (4, 2))
    assert cropped(long, 4) == Item(((2, 3, 4, 5), (END, 1, 2, 3)), (2, 2))
    assert cropped(long, 6) == long
    with pytest.raises(UserError, match="longer context"):
        cropped(long, 2)


@pytest.mark.parametrize(
    "means, chosen",
    [([2.0, 1.0, 3.0], 1), ([1.0, 1.0], 0), ([3.0, 1.0, 1.0], 1), ([None, 1.0], 0), ([1.0, None], 0), ([2.0, None, 1.0], 2)],
)
def test_the_lowest_mean_is_chosen_and_the_first_on_ties(means, chosen):
    assert choice(means) == chosen
    published = [float("nan") if mean is None else mean for mean in means]
    assert published.index(min(published)) == chosen  # how the published procedure finds it, NaN and all
