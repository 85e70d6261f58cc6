"""The line of the starting plan about data that a plan turns."""

import pytest

from harness.launch.data_plan import data_lines
from harness.plan.compose import compose

LANE = ("lane=sotu-dense", "unranked=true", "budget.tokens=65536")


def said(*words: str) -> str:
    (line,) = data_lines(compose([*LANE, *words]).plan)
    assert line[:2] == ("data", "sotu")
    return line[2]


def test_a_plan_that_reads_all_of_its_track_has_no_such_line():
    assert data_lines(compose(LANE).plan) == []


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["data.epochs=4"], "4 passes over 16,384 bytes that the seed chooses"),
        (["data.epochs=1", "data.deduplicate=true"], "equal passages once; one pass over 65,536 bytes that the seed chooses"),
        (["data.noise=[random_bytes]", "data.noise_share=0.2"], "20% of the bytes are noise (random_bytes)"),
        (["data.noise=[random_bytes]"], "scored on noise too (random_bytes), trained on none"),
        (
            ["data.noise=[random_bytes]", "data.noise_share=0.5", "data.order=staged"],
            "50% of the bytes are noise (random_bytes); noise first, then source after source",
        ),
    ],
)
def test_the_starting_plan_says_what_is_done_to_the_data(words, expected):
    assert said(*words) == expected


def test_with_weights_noise_stays_in_its_source():
    words = ["data.sources=[web,kjv]", "data.weights=[3,1]", "data.noise=[random_bytes]", "data.noise_share=0.5"]
    plan = compose(["lane=renderings-dense", "unranked=true", *words, "data.order=staged"]).plan
    expected = "50% of the bytes are noise (random_bytes); source after source"
    assert data_lines(plan) == [("data", "web (75%), kjv (25%)", expected)]
