"""`make bench SET="attention lane=..."`: a row for each attention and length, what is left out and why, where curves cross."""

import contextlib
import io
import json
import math

import micro
import pytest

from harness.__main__ import main
from harness.bench import mixers as bench
from harness.bench.crossings import crossings
from harness.bench.mixer import PASS, mixer
from harness.errors import UserError
from harness.model.build import count_plan
from harness.plan import parts
from harness.plan.compose import compose
from harness.report.bench import draw_mixers
from harness.train import machine

ATTENTIONS = parts.names("attention")
TINY = [
    *micro.MOE, "precision.format=fp32", "attention.mla.rank=8", "attention.mla.rotary=4", "attention.window.tokens=32",
    "attention.gated_delta.chunk=8", "attention.kda.chunk=8", "attention.nsa.block=4", "attention.nsa.chosen=3",
]  # fmt: skip
MIX = "mix of 1 kda, 1 full"


@pytest.fixture(name="swept", scope="module")
def swept_fixture(tmp_path_factory):
    """(folder, what was written, what was said)"""
    out, said = tmp_path_factory.mktemp("mixers"), io.StringIO()
    words = [*TINY, "model.attention_pattern=[kda,full]", "set=toy", "rounds=2", "lengths=64,32", f"out={out}"]
    with contextlib.redirect_stdout(said):
        assert main(["bench", "attention", *words]) == 0
    return out, json.loads((out / "mixers.json").read_text()), said.getvalue()


def row(found, name, length):
    (one,) = [row for row in found["rows"] if (row["name"], row["length"]) == (name, length)]
    return one


def test_where_a_lane_is_named_every_attention_is_timed_at_every_length_and_drawn(swept):
    out, found, said = swept
    expected = {(name, length) for name in (*ATTENTIONS, MIX) for length in (32, 64)}
    assert {(row["name"], row["length"]) for row in found["rows"]} == expected
    assert (out / "attention.json").exists() and (out / "mixers.png").read_bytes().startswith(b"\x89PNG")
    timed = [row for row in found["rows"] if "left_out" not in row]
    assert len(timed) == len(expected) - 1 and found["tokens"] == 512
    for each in timed:
        base = row(found, "full", each["length"])
        both = 512e-6 * each["us_per_token"]
        assert min(each["forward_s"], each["backward_s"], each["saved_bytes"]) > 0
        assert each["per_flop"] == pytest.approx(each["ratio"] * base["flops_per_token"] / each["flops_per_token"])
        peak = found["hardware"]["matmul_peak_flops"]
        assert each["floors"] == pytest.approx(both * peak / (512 * each["flops_per_token"]))
    assert row(found, "full", 64)["ratio"] == 1 and all(each["said"] in said for each in found["crossings"])
    assert {each["name"] for each in found["crossings"]} == {*ATTENTIONS, MIX} - {"full"}


def test_a_part_that_refuses_a_length_is_left_out_with_its_reason_and_timed_at_others(swept):
    _, found, said = swept
    reason = "attention.window.tokens=32 with model.sequence_length=32: the window sees everything"
    assert row(found, "window", 32) == {"name": "window", "length": 32, "left_out": reason} and reason in said
    assert row(found, "window", 64)["forward_s"] > 0


def test_flops_are_those_that_a_model_with_the_attention_counts(swept):
    _, found, _ = swept

    def of_model(name):
        return count_plan(compose([*TINY, f"model.attention={name}", "model.sequence_length=64"]).plan).flops_per_token

    for name in ATTENTIONS:
        apart = row(found, name, 64)["flops_per_token"] - row(found, "full", 64)["flops_per_token"]
        assert of_model(name) - of_model("full") == 2 * apart  # two layers


def test_cached_bytes_grow_with_the_length_where_the_cache_does(swept):
    _, found, _ = swept
    kept = {name: [row(found, name, length).get("cached_bytes") for length in (32, 64)] for name in ATTENTIONS}
    assert kept["full"] == [4 * 64 * length for length in (32, 64)]  # keys and values of width 32 in fp32
    assert kept["mla"] == [4 * (8 + 4) * length for length in (32, 64)]
    assert kept["window"][1] == 4 * 64 * 32  # as many tokens as the window, which the words set
    for name in ("gated_delta", "kda"):
        assert kept[name] == [4 * (3 * 3 * 32 + 2 * 16 * 16)] * 2  # three inputs of q, k, v, and a state a head
    assert [name for name in ATTENTIONS if row(found, name, 64)["counted"]] == ["nsa"]
    assert kept["nsa"] == [4 * (64 + 16) * length for length in (32, 64)]


def test_a_pattern_is_a_row_that_is_the_mean_of_its_layers(swept):
    _, found, _ = swept
    mix, kda, full = (row(found, name, 64) for name in (MIX, "kda", "full"))
    for key in ("flops_per_token", "saved_bytes", "cached_bytes"):
        assert mix[key] == (kda[key] + full[key]) / 2
    assert mix["derived"] and mix["ratio"] == pytest.approx((kda["ratio"] + full["ratio"]) / 2)  # round by round
    assert found["model"]["attentions"] == ["kda", "full"]
    assert "attention.window.tokens=32" in found["turned"] and "attention.nsa.window=32" not in found["turned"]


@pytest.mark.parametrize("name", ATTENTIONS)
def test_what_a_pass_keeps_is_known_before_it_takes_any_memory(name):
    plan = compose(TINY).plan
    here, shape = machine.detect(plan), (2, 64, 32)
    taken = PASS * mixer(plan, name, here, shape, math.inf).saved_bytes * 2 * 64
    assert mixer(plan, name, here, shape, taken)
    with pytest.raises(UserError, match="a pass takes about .* GiB may be used"):
        mixer(plan, name, here, shape, taken - 1)


def test_where_nothing_fits_all_are_left_out_and_none_is_compared(tmp_path, monkeypatch):
    monkeypatch.setattr(bench, "memory_available_bytes", lambda device: 1000)
    plan, said = compose(TINY).plan, []
    here = machine.detect(plan)
    found = bench.mixers(plan, here, "toy", 1, [64], said.append)
    assert {row["name"] for row in found["rows"] if "GiB may be used" in row["left_out"]} == {*ATTENTIONS}
    assert not found["crossings"]
    origin = here.as_origin(()) | found
    assert draw_mixers(origin, tmp_path / "none.png").read_bytes().startswith(b"\x89PNG")


def test_attentions_that_take_more_than_their_share_of_time_per_flop_are_said_with_where_most(swept):
    rows = [{"name": "kda", "length": length, "per_flop": found} for length, found in ((256, 1.4), (512, 2.5), (1024, 1.2))]
    rows += [{"name": "mla", "length": 256, "per_flop": 1.3}, {"name": "nsa", "length": 256, "left_out": "why"}]
    assert bench.beyond(rows) == "time per FLOP above 1.3 times that of full: kda up to 2.50 (S = 512)"
    assert bench.beyond(rows[3:]) == "time per FLOP above 1.3 times that of full: none"
    _, found, said = swept
    assert bench.beyond(found["rows"]) in said


def of(name, ratios, base=(1.0, 2.0, 4.0)):
    """Rows of `name` and of full at 256, 512 and 1,024, `ratios` apart; None: left out."""
    figures = [{"ratio": ratio, "us_per_token": 1.0} if ratio else {"left_out": "why"} for ratio in ratios]
    rows = []
    for length, own, cost in zip((256, 512, 1024), figures, base):
        rows.append({"name": "full", "length": length, "ratio": 1.0, "us_per_token": cost})
        rows.append({"name": name, "length": length} | own)
    return rows


@pytest.mark.parametrize(
    "ratios, faster, said",
    [
        ((4, 2, 0.5), [(512 * 2**0.5, 1024)], "kda is faster than full from S = 724 on (interpolated)"),
        ((0.5, 2, 4), [(256, 256 * 2**0.5)], "kda is faster than full up to S = 362 (interpolated)"),
        ((0.5, 2, 0.5), [(256, 256 * 2**0.5), (512 * 2**0.5, 1024)],
         "kda is faster than full up to S = 362 and from S = 724 on (interpolated)"),
        ((2, 0.5, 2), [(256 * 2**0.5, 512 * 2**0.5)], "kda is faster than full from S = 362 to 724 (interpolated)"),
        ((0.9, 0.8, 0.7), [(256, 1024)], "kda is faster than full at every length timed, 256 to 1,024"),
        ((4, 2, 1), [], "kda is not faster than full within 1,024"),
        ((4, 2, None), [], "kda is not faster than full within 512"),
        ((None, 2, None), [], "kda is not faster than full at 512, the one length timed"),
        ((0.5, None, None), [(256, 256)], "kda is faster than full at 256, the one length timed"),
    ],
)  # fmt: skip
def test_where_an_attention_becomes_faster_is_read_off_between_the_lengths(ratios, faster, said):
    (found,) = crossings(of("kda", ratios), "full")
    assert found["said"] == said and len(found["faster"]) == len(faster)
    for span, expected in zip(found["faster"], faster):
        assert span == pytest.approx(expected)


def test_a_crossing_lies_on_the_curve_of_full_attention():
    (found,) = crossings(of("kda", (4, 2, 0.5)), "full")
    (point,) = found["at"]
    assert (point["length"], point["us_per_token"]) == pytest.approx((512 * 2**0.5, 2 * 2**0.5))


def test_without_times_of_full_attention_nothing_is_said_to_cross():
    assert crossings([row for row in of("kda", (4, 2, 0.5)) if row["name"] != "full"], "full") == []


@pytest.mark.parametrize(
    "words, said",
    [
        (["attention", "lengths=256"], "name it, or attention and a lane"),
        (["mixers", "lengths=1"], "at least 2"),
        (["mixers", "lengths=64,64"], "each once"),
        (["mixers", "lengths=64,1000000"], "at most 131,072"),
    ],
)
def test_mistakes_are_explained(words, said, tmp_path, capsys):
    assert main(["bench", *words, f"out={tmp_path}"]) == 2
    assert said in capsys.readouterr().err
