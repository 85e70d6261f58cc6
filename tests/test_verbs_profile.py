"""Profile: where the steps of a micro lane and of its twin go."""

import json

import micro
import pytest
import torch

from harness.__main__ import main
from harness.bench.profile import measured
from harness.bench.profile.parts import ATTENTION, DENSE, ELEMENTWISE, EXPERTS, GATHERS, HEAD, HOST, NORMS, OTHER, ROUTER

ROUNDS = 2
LANE = [*micro.MOE, "model.ffn_width=32"]  # the width is of the dense twin
BOTH = [ATTENTION, DENSE, ELEMENTWISE, HEAD, "optimizer: adamw", "optimizer: muon", NORMS, HOST]
OF_EXPERTS = [EXPERTS, ROUTER, GATHERS]


@torch.library.custom_op("profile_test::strange", mutates_args=())
def strange(x: torch.Tensor) -> torch.Tensor:
    return x.clone()


class Watched:
    """Every step of every contestant, in order; each also calls an operator that no part knows."""

    def __init__(self):
        self.build, self.steps, self.plans = measured.session, [], []

    def __call__(self, plan, here):
        self.plans.append(plan)
        built = self.build(plan, here)
        step = built.step

        def watched(index):
            self.steps.append((plan.lane.name, index))
            strange(torch.ones(64))
            return step(index)

        built.step = watched
        return built


@pytest.fixture(name="profiled", scope="module")
def profiled_fixture(tmp_path_factory):
    """(what profile.json holds, the folder, what was printed, who watched)"""
    folder, watched, said = tmp_path_factory.mktemp("profile"), Watched(), []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(measured, "session", watched)
        patch.setattr("builtins.print", lambda *words, **_: said.append(" ".join(map(str, words))))
        assert main(["profile", *LANE, f"rounds={ROUNDS}", f"out={folder}"]) == 0
    return json.loads((folder / "tiny-moe-16e.json").read_text()), folder, "\n".join(said), watched


def parts_of(step):
    return {row["part"]: row for row in step["parts"]}


def test_the_parts_of_a_step_add_up_to_its_wall_time(profiled):
    for step in profiled[0]["steps"]:
        assert sum(row["ms"] for row in step["parts"]) == pytest.approx(step["wall_ms"], rel=1e-6)
        assert min(step["wall_rounds_ms"]) <= step["wall_ms"] <= max(step["wall_rounds_ms"])
        assert len(step["wall_rounds_ms"]) == len(step["plain_rounds_ms"]) == ROUNDS and step["plain_ms"] > 0


def test_every_part_that_a_plan_has_is_found_and_no_other(profiled):
    lane, twin = map(parts_of, profiled[0]["steps"])
    assert set(lane) == {*BOTH, *OF_EXPERTS, OTHER} and set(twin) == {*BOTH, OTHER}
    assert all(rows[part]["ms"] > 0 for rows in (lane, twin) for part in rows)
    assert all(rows[part]["floor_ms"] > 0 for rows in (lane, twin) for part in rows if part not in (OTHER, HOST))
    assert all("aten::linalg_vector_norm" in rows[NORMS]["operators"] for rows in (lane, twin))
    assert profiled[0]["parts"] == [*BOTH[:2], *OF_EXPERTS, *BOTH[2:-1], OTHER, HOST]


def test_an_operator_that_no_part_knows_is_told_by_name(profiled):
    found, _, said, _ = profiled
    for step in found["steps"]:
        assert list(parts_of(step)[OTHER]["operators"]) == ["profile_test::strange"]
        assert f"{step['name']}: operators that no part knows" in said
    assert said.count("profile_test::strange") == 2


def test_the_lane_and_its_twin_take_turns_with_the_profiler_and_without(profiled):
    _, _, _, watched = profiled
    rounds = ROUNDS + measured.WARMUP
    assert watched.steps == [(plan.lane.name, step) for step in range(2 * rounds) for plan in watched.plans]
    lane, twin = watched.plans
    assert lane.model.num_experts == 8 and twin.model.num_experts == 0
    assert twin.lane.name == "tiny-dense" and twin.model.width == 32  # overridden alike


def test_the_table_has_a_line_for_each_part_and_says_what_the_ratio_is_made_of(profiled):
    found, _, said, _ = profiled
    lane, twin = found["steps"]
    lines = {line[:26].strip(): line.split()[-1] for line in said.splitlines()}
    told = [float(lines[part]) for part in found["parts"]]
    assert sum(told) == pytest.approx(lane["wall_ms"] / twin["wall_ms"] - 1, abs=0.005 * len(told))
    assert float(lines["all parts, profiled"]) == pytest.approx(lane["wall_ms"] / twin["wall_ms"] - 1, abs=0.006)
    assert float(lines["a step not profiled"]) == pytest.approx(lane["plain_ms"] / twin["plain_ms"] - 1, abs=0.006)


def test_json_and_figure_are_written(profiled):
    found, folder, said, _ = profiled
    assert sorted(path.name for path in folder.iterdir()) == ["tiny-moe-16e.json", "tiny-moe-16e.png"]
    assert (folder / "tiny-moe-16e.png").read_bytes().startswith(b"\x89PNG")
    assert f"written to {folder / 'tiny-moe-16e.json'}" in said
    assert found["rounds"] == ROUNDS and found["hardware_class"] and found["provenance"]["commit"]


def test_profiling_changes_no_bits():
    plain, watched = micro.session(), micro.session()
    contestant = measured._Contestant(watched, watched.machine)
    for step in range(2):
        plain.step(step)
        contestant.step(step, with_profiler=step == 1, kept=True)
    state = watched.state()
    assert all(torch.equal(tensor, state[name]) for name, tensor in plain.state().items())


@pytest.mark.parametrize(
    "words, said",
    [
        (["rounds=0"], "rounds=0"),
        (["round=3"], "did you mean rounds"),
        (["steps"], "steps"),
        (["lane=tiny-moe-16"], "tiny-moe-16e"),
        (["model.width=31", "unranked=true"], "model.width"),
    ],
)
def test_mistakes_are_explained(words, said, capsys):
    assert main(["profile", *words]) == 2
    assert said in capsys.readouterr().err
