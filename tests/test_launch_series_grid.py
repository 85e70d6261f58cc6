"""Which part of a series fits: balanced, as large as the hours allow, and each part holds the one before."""

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from series_factory import series

from harness.errors import UserError
from harness.launch.series.grid import HOUR_S, fitting, grids, left_s

SERIES = series(sizes=[3, 4, 5, 6, 8])
AHEAD = [SERIES.point_name(family, 5, SERIES.ahead) for family in SERIES.families]
LEAST = 2 * 4  # families x sizes


def test_each_part_holds_the_one_before_and_the_whole_is_last():
    parts = grids(SERIES, [1, 2, 3])
    runs = [set(part.runs) for part in parts]
    assert all(small <= large for small, large in zip(runs, runs[1:]))
    assert len(runs[0]) == LEAST and len(runs[-1]) == 2 * 5 * 2 * 3 and parts[-1].ahead and not parts[0].ahead


@pytest.mark.parametrize("part", grids(SERIES, [1, 2]))
def test_cut_off_after_any_budget_of_a_seed_no_family_or_size_is_ahead(part):
    whole = 2 * part.sizes
    for end in range(whole, len(part.runs) + 1, whole):
        done = part.runs[:end]
        assert len(set(Counter(name.split("-")[0] for name, _ in done).values())) == 1
        assert len(set(Counter(name.split("-")[1] for name, _ in done).values())) == 1
    assert [seed for _, seed in part.runs] == sorted(seed for _, seed in part.runs)


@settings(max_examples=60, deadline=None)
@given(st.floats(0.5, 600), st.floats(0.01, 20), st.data())
def test_what_fits_is_the_largest_part_whose_runs_that_lack_fit(run_s, hours, data):
    whole = grids(SERIES, [1, 2])[-1].runs
    done = set(data.draw(st.lists(st.sampled_from(whole), unique=True)))
    asked = (SERIES, [1, 2], hours, done, lambda name: run_s, AHEAD)
    left = [left_s(part, done, lambda name: run_s, AHEAD) for part in grids(SERIES, [1, 2])]
    if left[0] > hours * HOUR_S:
        with pytest.raises(UserError, match="no part of series example fits") as caught:
            fitting(*asked)
        enough = float(caught.value.remedy.partition(" ")[0].removeprefix("hours="))
        assert fitting(SERIES, [1, 2], enough, *asked[3:])[0] in grids(SERIES, [1, 2])
        return
    part, all_of = fitting(*asked)
    assert [seconds for _, seconds in all_of] == left
    larger = left[grids(SERIES, [1, 2]).index(part) + 1 :]
    assert left_s(part, done, lambda name: run_s, AHEAD) <= hours * HOUR_S and all(it > hours * HOUR_S for it in larger)


def test_what_is_there_costs_nothing():
    part = grids(SERIES, [1])[-1]
    assert left_s(part, set(part.runs), lambda name: 60.0, AHEAD) == 2 * 60
    assert left_s(part, {*part.runs, *((name, 1) for name in AHEAD)}, lambda name: 60.0, AHEAD) == 0
