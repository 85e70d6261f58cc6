"""`make bench SET="transport ranks=4"`: bytes and time by phase, skew, products by the ranks that experts are spread over."""

import contextlib
import io
import json
from types import SimpleNamespace

import micro
import pytest
import torch

from harness.__main__ import main
from harness.bench import transport as bench
from harness.bench.exchanged import busiest, exchanged, leaving, per_rank, skew
from harness.bench.shapes import Shape
from harness.model.arrangement import outgoing
from harness.model.transport.all_to_all import AllToAll
from harness.plan.compose import compose
from harness.ranks import Ranks
from harness.report.bench import draw_transport
from harness.train import machine
from kernels import Precision

WAYS = ("forward", "backward")
TOY = [*micro.MOE, "set=toy", "rounds=2"]
COUNT_PE = torch.tensor([[2, 1, 0, 3], [0, 0, 1, 0]])  # of two ranks with two experts each


@pytest.fixture(name="made", scope="module")
def made_fixture(tmp_path_factory):
    """(folder, what was written, what was said)"""
    out, said = tmp_path_factory.mktemp("transport"), io.StringIO()
    with contextlib.redirect_stdout(said):
        assert main(["bench", "transport", *TOY, "ranks=4", "tokens=12", f"out={out}"]) == 0
    return out, json.loads((out / "transport.json").read_text()), said.getvalue()


def test_ranks_that_can_share_the_experts_have_a_row_each_and_are_drawn(made):
    out, found, said = made
    assert [row["ranks"] for row in found["rows"]] == [1, 2, 4, 8]  # of 8 experts
    assert [row["experts_a_rank"] for row in found["rows"]] == [8, 4, 2, 1]
    assert [row["rows_an_expert"] for row in found["rows"]] == [3 * ranks for ranks in (1, 2, 4, 8)]  # 12 tokens, top-2
    assert (out / "transport.png").read_bytes().startswith(b"\x89PNG")
    assert "4 ranks, each" in said and "PREDICTED" in said and all(f"  {phase} " in said for phase in bench.PHASES)


def test_every_phase_is_timed_and_rates_are_the_flops_of_products_over_their_time(made):
    _, found, _ = made
    for row in found["rows"]:
        for way in WAYS:
            assert list(row["ms"][way]) == list(bench.PHASES)
            phases = {phase for phase, ms in row["ms"][way].items() if ms > 0}
            assert phases >= {*bench.PHASES} - {"other", *(["counts"] if way == "backward" else [])}
        flops = 4 * 12 * 2 * 32 * 16  # of a rank's rows, relu2
        forward_s, backward_s = (row["ms"][way]["products"] / 1e3 for way in WAYS)
        assert row["forward_tflops"] == pytest.approx(flops / forward_s / 1e12)
        assert row["backward_tflops"] == pytest.approx(2 * flops / backward_s / 1e12)
        assert row["tflops"] == pytest.approx(3 * flops / (forward_s + backward_s) / 1e12)
        assert row["of_peak"] == pytest.approx(row["tflops"] * 1e12 / found["hardware"]["matmul_peak_flops"])
        assert row["stranded"] == pytest.approx(1 - row["of_peak"])


def test_one_rank_sends_nothing_over_a_wire_and_more_send_more(made):
    _, found, _ = made
    shares = [row["leaves"] for row in found["rows"]]
    assert shares[0] == 0 and shares == sorted(shares)
    for row in found["rows"]:
        sent, left = (sum(sum(row[key][way].values()) for way in WAYS) for key in ("bytes", "leaving_bytes"))
        assert row["sent_a_token"] == pytest.approx(sent / 12) and row["leaves"] == pytest.approx(left / sent)
        for name, rate in found["links"].items():
            assert row["predicted_wire_ms"][name] == pytest.approx(1e3 * row["busiest_bytes"] / rate)


def test_a_phase_is_told_by_what_came_before():
    asked = ["counts", "dispatch", "metadata", "up", "combine", "return", "combine"]
    phase = bench.Phase()
    assert [phase(stage) for stage in asked] == ["counts", "dispatch", *["products"] * 3, "return", "combine"]


# Bytes


def test_bytes_of_a_small_routing_are_those_counted_by_hand():
    """Rows of 8 bf16 numbers are 16 bytes: from rank 0 three to each, from rank 1 one to itself."""
    sent = exchanged(COUNT_PE, 8, 2)
    counts = [[40, 40], [40, 40]]  # two experts' and three numbers more
    assert {way: {phase: of.tolist() for phase, of in phases.items()} for way, phases in sent.items()} == {
        "forward": {"counts": counts, "dispatch": [[60, 60], [0, 20]], "return": [[48, 0], [48, 16]]},
        "backward": {"counts": counts, "dispatch": [[48, 48], [0, 16]], "return": [[60, 0], [60, 20]]},
    }
    assert per_rank(sent["forward"]["dispatch"]) == 70 and leaving(sent["forward"]["dispatch"]) == 30
    assert busiest(sent) == 2 * 40 + 60 + 48 + 48 + 60


def test_skew_is_the_most_rows_over_the_mean():
    assert skew(COUNT_PE) == {"owners": 4 / 3.5, "experts": 3 / 1.75}
    assert skew(torch.zeros(2, 4, dtype=torch.int64)) == {"owners": 1.0, "experts": 1.0}


class Heard(Ranks):
    """One rank that notes the bytes of its exchanges."""

    def exchange(self, part_PN):
        heard.append(part_PN.nbytes)
        return part_PN

    def exchange_rows(self, row_RX, to_P, from_P):
        heard.append(row_RX.nbytes)
        return row_RX


heard: list[int] = []


@pytest.mark.parametrize("precision", ["full", "native"])
def test_bytes_are_those_that_ranks_exchange(precision):
    heard.clear()
    draws, experts = torch.Generator().manual_seed(1), 4
    expert_TK = torch.randint(-1, experts, (9, 2), generator=draws)
    known = Precision.of(precision)
    x_TD = known.arithmetic.operand(torch.randn(9, 32, generator=draws)).requires_grad_()
    up, down = (torch.randn(experts, 32, 32, generator=draws) for _ in range(2))
    transport = AllToAll(SimpleNamespace(num_experts=experts), None, Heard(0, 1))
    how = {"activation": "relu2", "backend": "torch", "precision": known, "key_4": None}
    transport.experts(x_TD, up, down, expert_TK, torch.rand(9, 2, generator=draws).requires_grad_(), **how).sum().backward()
    sent = exchanged(outgoing(expert_TK, experts).count_E.unsqueeze(0), 32, x_TD.element_size())
    assert sum(heard[:4]) == sum(int(of) for of in sent["forward"].values())
    assert sum(heard[4:]) == sum(int(of) for of in sent["backward"].values())


# What is refused, and what is left out


@pytest.mark.parametrize(
    "words, said",
    [
        (["transport", *TOY, "ranks=3"], "ranks=3: 8 experts cannot be spread equally over them"),
        (["transport", *TOY, "ranks=3"], "choose one of 1, 2, 4, 8"),
        (["transport", *TOY, "ranks=0"], "ranks=0"),
        (["transport", *micro.DENSE, "set=toy"], "no experts to spread"),
        (["transport", *TOY, "kernels.backend=reference"], "takes no rows alone"),
        (["layer", *TOY, "ranks=4"], "ranks= is of the part transport"),
        (["layer", *TOY, "tokens=4"], "tokens= is of the part transport"),
    ],
)
def test_mistakes_are_explained(words, said, capsys, tmp_path):
    assert main(["bench", *words, f"out={tmp_path}"]) == 2
    assert said in capsys.readouterr().err


def test_what_memory_has_no_room_for_is_left_out_and_said(monkeypatch, tmp_path):
    shape = Shape(8, 32, 16, 8, 2, "relu2")
    room = bench._pass_bytes(Shape(16, 32, 16, 8, 2, "relu2"), 4)
    monkeypatch.setattr(bench, "memory_available_bytes", lambda device: room / bench.SHARE)
    plan, said = compose([*micro.MOE, "precision.format=fp32"]).plan, []
    here = machine.detect(plan)
    found = bench.transport(plan, here, "torch", "toy", 1, 4, shape.T, said.append)
    assert [("left_out" in row) for row in found["rows"]] == [False, False, True, True]
    assert any("4 ranks left out: a pass takes about" in line for line in said)
    origin = here.as_origin(()) | found
    assert draw_transport(origin, tmp_path / "some.png").read_bytes().startswith(b"\x89PNG")
