"""Intervals and tests over seeds: against published results, against scipy.stats, and by hand."""

import pytest
from scipy import stats

from harness.report.statistics import ALPHA, Sample, below, welch

# Hours of sleep gained on each of two drugs by ten patients (Cushny and Peebles, 1905), on which Student (1908) showed his
# test. R prints what follows from them: t.test(extra ~ group, sleep), an example of its manual, and the same paired.
DRUG_1 = (0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0)
DRUG_2 = (1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4)


def test_welch_finds_of_students_sleep_data_what_r_prints():
    found = welch(Sample.of(DRUG_1), Sample.of(DRUG_2))
    assert 2 * found.p == pytest.approx(0.07939, abs=5e-6) and not found.significant
    assert found.interval == pytest.approx((-3.3654832, 0.2054832), abs=5e-8)


def test_the_t_test_finds_of_students_sleep_data_what_r_prints():
    found = below(Sample.of([a - b for a, b in zip(DRUG_1, DRUG_2)]), 0.0)
    assert 2 * found.p == pytest.approx(0.002833, abs=5e-7) and found.significant
    assert found.interval == pytest.approx((-2.4598858, -0.7001142), abs=5e-8)
    assert found.difference == pytest.approx(-1.58)


def test_mean_sd_and_interval_are_those_of_scipy():
    sample = Sample.of([1.60, 1.61, 1.63])
    expected = stats.t.interval(0.95, 2, loc=sample.mean, scale=stats.sem(sample.values))
    assert sample.sd == pytest.approx(stats.tstd(sample.values))
    assert sample.interval() == pytest.approx(expected)


def test_a_test_against_a_line_is_the_one_sided_t_test():
    values, line = [1.60, 1.61, 1.63], 1.66
    found = below(Sample.of(values), line)
    assert found.p == pytest.approx(stats.ttest_1samp(values, line, alternative="less").pvalue)
    assert found.significant == (found.p < ALPHA)


def test_welch_is_scipys():
    a, b = [1.60, 1.61, 1.63, 1.59], [1.66, 1.70, 1.65]
    found, expected = welch(Sample.of(a), Sample.of(b)), stats.ttest_ind(a, b, equal_var=False, alternative="less")
    two_sided = stats.ttest_ind(a, b, equal_var=False).confidence_interval(0.95)
    assert found.p == pytest.approx(expected.pvalue)
    assert found.interval == pytest.approx((two_sided.low, two_sided.high))


@pytest.mark.parametrize("a, b", [([1.0], [9.0]), ([1.0, 1.0001], [9.0, 9.0001, 9.0002])])
def test_fewer_than_three_seeds_are_never_significant(a, b):
    for found in (welch(Sample.of(a), Sample.of(b)), below(Sample.of(a), 9.0)):
        assert not found.significant and "n = " in found.why_not


def test_one_run_has_no_spread():
    one = Sample.of([1.5])
    assert one.sd is None and one.interval() is None and one.prediction(0.99) is None


def test_the_next_run_falls_wider_than_the_mean():
    sample = Sample.of([1.0, 1.1, 0.9])
    low, high = sample.prediction(0.95)
    assert low < sample.interval()[0] and sample.interval()[1] < high


def test_equal_values_do_not_divide_by_zero():
    same = Sample.of([2.0, 2.0, 2.0])
    assert below(same, 3.0).significant and not below(same, 2.0).significant
    assert welch(same, Sample.of([3.0] * 3)).significant and not welch(same, same).significant
