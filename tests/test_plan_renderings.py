"""The track `renderings`, its lanes and its study, as their files have them. `make prepare` checks hashes."""

import re

import numpy as np
import pytest

from harness.data.mixed import Mixed
from harness.data.texts import READERS
from harness.data.texts.document import SEPARATOR, Document
from harness.data.turned import turned
from harness.plan.compose import compose
from harness.plan.lanes import read_track
from harness.plan.schema import Data
from harness.plan.study import read_study

TRACK = read_track("renderings")


def test_the_track_states_every_source_and_the_sum_of_their_bytes():
    assert list(TRACK.sources) == ["web", "kjv", "asv", "ylt", "bbe"]
    for name, source in TRACK.sources.items():
        assert source.corpus == f"pythonbible-{name}" and source.corpus in READERS and source.release == TRACK.release
        for sha256 in (source.sha256, source.train_sha256, source.val_sha256):
            assert re.fullmatch("[0-9a-f]{64}", sha256)
    between = len(SEPARATOR) * (len(TRACK.sources) - 1)
    assert TRACK.train_bytes == sum(source.train_bytes for source in TRACK.sources.values()) + between
    assert TRACK.val_bytes == sum(source.val_bytes for source in TRACK.sources.values()) + between
    assert TRACK.slice_bytes < TRACK.sources["web"].val_bytes


def test_every_lane_and_case_of_the_study_scores_val_of_every_source():
    for lane in ("renderings-dense", "renderings-moe-16e"):
        assert compose([f"lane={lane}"]).plan.track.sources.keys() == TRACK.sources.keys()
    study = read_study("rephrasing")
    for case in study.cases:
        composed = compose(study.words(case))
        assert composed.scoring_cap is None and composed.plan.budget.tokens == 1_048_576
    assert study.dials == ["rephrased", "fresh"]


def test_the_cases_of_the_study_differ_in_what_is_read_alone():
    study = read_study("rephrasing")
    for family in study.families:
        plans = [compose(study.words(case)).plan for case in (family, *(f"{family}-{dial}" for dial in study.dials))]
        for plan in plans:
            plan.data = Data()
        assert plans[0] == plans[1] == plans[2]


@pytest.fixture
def renderings():
    """Sources with the same 400 chapters of 900 to 1,100 bytes, each in its own words."""
    lengths = 900 + np.random.default_rng(0).integers(0, 200, (4, 400))
    return {
        name: [Document(f"B {key}", (f"{name}-{key} " * 200).encode()[:length]) for key, length in enumerate(of_source)]
        for name, of_source in zip(("web", "kjv", "asv", "ylt"), lengths)
    }


def read(data, renderings, seed=1):
    """By source the numbers of chapters that training reads, and its text."""
    found = turned(data, renderings, seed, 128 * 1024, 64)
    (strand,) = found.strands
    chapters = {name: set() for name in renderings}
    for name, key in re.findall(rb"(\w+)-(\d+) ", strand.text.tobytes()):
        if name.decode() in chapters:
            chapters[name.decode()].add(int(key))
    return chapters, strand.text


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_one_pass_over_four_renderings_reads_the_chapters_of_four_passes_over_one(renderings, seed):
    four_times, one_text = read(Data(sources=["web"], epochs=4), renderings, seed)
    rephrased, four_texts = read(Data(sources=list(renderings), epochs=1), renderings, seed)
    fresh, fresh_text = read(Data(sources=["web"], epochs=1), renderings, seed)
    assert [len(text) for text in (one_text, four_texts, fresh_text)] == [32 * 1024 + 64, 128 * 1024 + 64, 128 * 1024 + 64]
    for name in renderings:
        assert len(four_times["web"] ^ rephrased[name]) <= 2  # where the budget cuts
    assert four_times["web"] <= fresh["web"] and len(fresh["web"]) > 3 * len(four_times["web"])
    assert not four_times["kjv"] and not fresh["kjv"]


def test_weighted_sources_have_the_same_chapters_too_and_their_shares_are_exact(renderings):
    data = Data(sources=["web", "kjv"], weights=[3, 1], epochs=1)
    found = turned(data, renderings, 1, 128 * 1024, 64)
    web, kjv = ({int(key) for key in re.findall(rb"-(\d+) ", strand.text.tobytes())} for strand in found.strands)
    assert len(kjv - web) <= 1 and [strand.share for strand in found.strands] == [0.75, 0.25]
    steps = compose(["lane=renderings-dense", "unranked=true", "budget.tokens=131072"]).plan.by_step
    strands = [Mixed(found, 1, steps, 64).place(number)[0] for number in range(2000)]
    assert strands[:1000].count(1) == strands[1000:].count(1) == 250
