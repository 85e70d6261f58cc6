"""A run on turned data: what it reads, what it is scored on, and what its record says."""

import math

import pytest
from micro import (
    bits,
    no_figures_fixture,  # noqa: F401
    record,
    rows,
    run,
    speedrun,
)

from harness.report.integrity import check
from harness.report.run_data import load_run

WORDS = [
    "data.noise=[boilerplate,random_bytes]",
    "data.noise_share=0.4",
    "data.epochs=2",
    "data.order=staged",
    "budget.tokens=32768",
]


@pytest.fixture(name="turned", scope="module")
def turned_fixture(tmp_path_factory):
    return run(tmp_path_factory.mktemp("turned"), *WORDS)


def test_the_record_says_what_was_read_and_what_the_noise_costs(turned):
    found = record(turned)
    facts = found.data.turned
    assert facts.read_bytes == pytest.approx(32768 / 2, abs=64) and list(facts.shares) == ["noise", "sotu"]
    assert 0 < facts.noise_bytes < facts.read_bytes and sum(facts.shares.values()) == pytest.approx(1)
    (final,) = rows(turned, "final")
    assert found.metrics.val_parts.keys() == {"noise-boilerplate", "noise-random_bytes"} == final["parts"].keys()
    for name, part in final["parts"].items():
        assert found.metrics.val_parts[name] == pytest.approx(part["nats"] / math.log(2) / part["bytes"])
        assert [sum(counts) for counts in part["counts"]] == [2 * part["bytes"]] * 2  # top-2 of two layers
    assert found.metrics.val_parts["noise-random_bytes"] > found.metrics.val_bpb


def test_the_evidence_holds(turned):
    assert not check(load_run(turned))


def test_a_run_that_is_stopped_goes_on_to_the_same_bits(turned, tmp_path, no_figures):
    speedrun(tmp_path, *WORDS, "run.stop_after_step=9")
    assert bits(run(tmp_path, *WORDS)) == bits(turned)


def test_noise_that_is_scored_alone_leaves_the_bits_of_training_alone(tmp_path, no_figures):
    plain, scored = run(tmp_path / "a"), run(tmp_path / "b", WORDS[0])
    assert bits(plain) == bits(scored)
    assert record(plain).metrics.val_bpb == record(scored).metrics.val_bpb
    assert not record(plain).metrics.val_parts and record(scored).metrics.val_parts
