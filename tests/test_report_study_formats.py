"""What formats cost beside bf16: which case is the control of which, planted effects, the tables and the figure."""

import json

import pytest
from omegaconf import OmegaConf
from report_factory import sign
from study_factory import of_text

from harness.plan.study import Study, read_study
from harness.report.study.folder import write_study
from harness.report.study.formats import Formats
from harness.report.study.formats_table import formats_tables
from harness.report.study.trials import read_trial

SEEDS = (1, 2, 3)
FAMILIES = {"dense": 0, "moe": 16}
# dial: (format, gain, dither, switch_at, times the budget), change of val
GAIN = -0.01  # what the gain does in bf16
DIALS = {
    "": ("bf16", 1.0, 0.0, 1.0, 1), "bf16-gain": ("bf16", 10.0, 0.0, 1.0, 1), "nvfp4": ("nvfp4", 1.0, 0.0, 1.0, 1),
    "nvfp4-gain": ("nvfp4", 10.0, 0.0, 1.0, 1), "nvfp4-dither-50": ("nvfp4", 1.0, 0.5, 1.0, 1),
    "nvfp4-late-60": ("nvfp4", 1.0, 0.0, 0.6, 1), "bf16-half": ("bf16", 1.0, 0.0, 1.0, 0.5),
    "nvfp4-half": ("nvfp4", 1.0, 0.0, 1.0, 0.5), "bf16-twice": ("bf16", 1.0, 0.0, 1.0, 2),
    "nvfp4-twice": ("nvfp4", 1.0, 0.0, 1.0, 2),
}  # fmt: skip


def bits(family, dial, seed):
    """nvfp4 costs 4%, two points less with each doubling; a gain brings 1% in bf16, and 2% more in the format of the MoE."""
    name, gain, dither, switch, times = DIALS[dial]
    cost = {0.5: 0.06, 1: 0.04, 2: 0.02}[times] if name == "nvfp4" else 0.0
    cost *= 0.5 if dither else 1.0
    cost *= 0.25 if switch < 1 else 1.0
    gained = (1 + GAIN) if gain > 1 else 1.0
    gained *= (1 - 0.02) if gain > 1 and name == "nvfp4" and family == "moe" else 1.0
    return (2.0 + 0.01 * seed) * (1 + cost) * gained / times**0.1


def made(home, family, dial, seed):
    name, gain, dither, switch, times = DIALS[dial]
    case = f"{family}-{dial}".strip("-")
    one = of_text(
        home, case, seed, val=bits(family, dial, seed), experts=FAMILIES[family], steps=int(64 * times), precision=name
    )
    plan = OmegaConf.load(one.folder / "plan.yaml")
    plan.gains = {"embedding": gain}
    plan.precision = {"format": name, "dither": dither, "switch_at": switch}
    (one.folder / "plan.yaml").write_text(OmegaConf.to_yaml(plan))
    rows = [json.loads(line) for line in (one.folder / "metrics.jsonl").read_text().splitlines()]
    for row in rows:
        if row["kind"] == "window" and name != "bf16":
            late = row["tokens"] > plan.budget.tokens / 2
            row["precision"]["flips"] = {"0": {"up": 0.04 if not late else 0.02, "down": 0.02 if not late else 0.01}}
            causes = {"weight": 0.01, "scale": 0.005, "dither": dither}
            row["precision"]["flip_causes"] = {"0": {f"{m}.{c}": share for m in ("up", "down") for c, share in causes.items()}}
    (one.folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    sign(one.folder)
    return read_trial(case, seed, one.folder)


def study(figure="formats"):
    cases = {f"{family}-{dial}".strip("-"): dial for family in FAMILIES for dial in DIALS}
    return Study("example", "an example", "What does it cost?", "tiny-dense", figure, cases, families=list(FAMILIES))


@pytest.fixture(scope="module")
def trials(tmp_path_factory):
    home = tmp_path_factory.mktemp("formats")
    return [made(home, family, dial, seed) for family in FAMILIES for dial in DIALS for seed in SEEDS]


@pytest.fixture(name="found", scope="module")
def found_fixture(trials):
    return Formats(study(), trials)


def test_controls_are_found_by_plan(found):
    assert found.control("dense-nvfp4") == "dense" and found.control("moe-nvfp4-gain") == "moe-bf16-gain"
    assert found.control("dense-nvfp4-late-60") == "dense" and found.control("moe-nvfp4-half") == "moe-bf16-half"
    assert found.plain("moe-nvfp4-dither-50") == "moe-nvfp4"
    assert found.without_gains("dense-nvfp4-gain") == "dense-nvfp4" and found.without_gains("dense-bf16-gain") == "dense"
    assert set(found.low) == {f"{family}-{dial}" for family in FAMILIES for dial in DIALS if dial.startswith("nvfp4")}


def test_costs_and_what_of_a_gain_is_of_the_format(found):
    assert list(found.cost("dense-nvfp4").values()) == pytest.approx([4.0] * 3)
    assert found.gained() == {f"{family}-nvfp4-gain": f"{family}-nvfp4" for family in FAMILIES}
    for family, more in (("dense", 0.0), ("moe", -1.98)):
        in_bf16, in_format, specific = found.specific(f"{family}-nvfp4-gain", f"{family}-nvfp4")
        assert list(in_bf16.values()) == pytest.approx([-1.0] * 3)
        assert list(specific.values()) == pytest.approx([more] * 3) and set(in_format) == set(SEEDS)


def test_a_cost_that_closes_has_a_slope(found):
    assert found.lengths()["moe", "nvfp4"] == {
        131072: "moe-nvfp4-half", 262144: "moe-nvfp4", 524288: "moe-nvfp4-twice"
    }  # fmt: skip
    slope = found.slope(found.lengths()["dense", "nvfp4"])
    assert slope.mean == pytest.approx(-2.0) and slope.n == 3
    assert found.slope({1: "dense-nvfp4", 2: "dense-nvfp4-twice"}) is None


def test_flips_are_means_over_matrices_by_cause(found):
    shares = found.flips("moe-nvfp4-dither-50")
    assert shares[0][1] == {"all": pytest.approx(0.03), "weight": 0.01, "scale": 0.005, "dither": 0.5}
    assert shares[-1][0] == 1.0 and shares[-1][1]["all"] == pytest.approx(0.015) and found.flips("dense") == []


def test_the_tables_say_it(trials):
    said = formats_tables(study(), trials)
    rows = {line.split(" | ")[0].strip("| "): line.split(" | ") for line in said if line.startswith("| ")}
    late = rows["moe-nvfp4-late-60"]
    assert late[-1].strip(" |") == "-" or "0.00%" in "".join(late), "the last table is of flips"
    text = "\n".join(said)
    assert "| dense-nvfp4 | dense | +4.00% (+4.00 to +4.00) | costs |" in text
    gained = ("-1.00% (-1.00 to -1.00)", "-2.98% (-2.98 to -2.98)", "-1.98% (-1.98 to -1.98)", "does more for the format")
    assert f"| moe-nvfp4-gain | {' | '.join(gained)} |" in text
    eased = ("-1.92% (-1.92 to -1.92)", "+2.00% (+2.00 to +2.00)", "helps; a cost is left")
    assert f"| dense-nvfp4-dither-50 | dense-nvfp4 | {' | '.join(eased)} |" in text
    assert "-2.00% (-2.00 to -2.00) | closes with training |" in text
    assert formats_tables(study("cost"), trials) == []


def test_the_figure_is_the_same_twice(trials, tmp_path):
    verdicts = {(one.case, one.seed): [] for one in trials}
    drawn = [write_study(study(), trials, tmp_path / place, verdicts)[1].read_bytes() for place in ("a", "b")]
    assert drawn[0] == drawn[1] and len(drawn[0]) > 30_000


def test_a_case_has_its_familys_words_and_then_its_own():
    dynamics = read_study("nvfp4-dynamics")
    words = dynamics.words("moe-nvfp4-half")
    assert words[-2:] == ["precision.format=nvfp4", "budget.tokens=131072"] and "model.num_experts=16" in words
    assert "model.num_experts=16" not in dynamics.words("dense-nvfp4-half")
