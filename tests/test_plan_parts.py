"""Parts declare themselves: the toys below tests/parts, each in one file, are trained, counted, checked and resumed."""

import json
from pathlib import Path

import micro
import processes
import pytest

from harness.plan import parts
from harness.plan.compose import compose
from harness.plan.fingerprint import plan_hash
from harness.plan.schema import LATER, walk

TOYS = Path(__file__).parent / "parts"
WORDS = (
    "model.attention=decay", "model.qk_norm=false", "attention.decay.rate=0.7", "model.residual=halves",
    "model.memories=[echo]", "memory.echo.rate=0.2", "optim.matrices=signs", "optim.signs.lr=0.01",
    "validation.batch_tokens=256", "model.expert_width=32",  # a step's, which is compiled anyway; `brgemm`'s, which is not
)  # fmt: skip
PARTS = ("attention decay", "residual halves", "memory echo", "optim signs")
START = f"""
{processes.NO_FIGURES}
import json, sys
sys.path.insert(0, "tests")
import micro
from pathlib import Path
words, home = json.loads(sys.argv[1]), Path(sys.argv[2])
"""
# One process for all: it imports for longer than it trains, or refuses.
CODE = """
import harness.train.run
from harness.errors import UserError
from harness.model.build import build_model, count_beside
from harness.model.counts import Counts
from harness.plan.compose import compose
from harness.plan.fingerprint import plan_hash
from harness.train.chain import hash_tensors
from harness.train.estimate import optimizer_flops

def refusal(work):
    try:
        return work()
    except UserError as error:
        return error.problem

odd = ("model.qk_norm=true", "attention.decay.rate=2", "optim.signs.lr=-1", "model.attention=decoy", "memory.echo.rate=2")
refused = [refusal(lambda: compose([*micro.MOE, *words, one])) for one in odd]
masked, plan = (compose([*micro.MOE, *words]).plan for _ in range(2))
masked.data.document_mask = True
refused.append(refusal(lambda: build_model(masked, "full")))
other = compose([*micro.MOE, *words, "attention.decay.rate=0.5"]).plan
hashes = [plan_hash(one) for one in (compose(["lane=tiny-moe-16e"]).plan, plan, other)]
found = {"refused": refused, "counted": f"{count_beside(plan)} {optimizer_flops(plan, Counts(10, 10, 1))}", "hashes": hashes}

warm_up = harness.train.run.warm_up
def watched(session, *rest):
    before = hash_tensors(session.state())
    seconds = warm_up(session, *rest)
    assert hash_tensors(session.state()) == before
    return seconds
harness.train.run.warm_up = watched
for compile in ("off", "on"):
    these, place = [*words, f"kernels.compile={compile}"], home / compile
    whole = micro.run(place / "whole", *these)
    micro.speedrun(place / "parted", *these, "run.stop_after_step=12")
    assert micro.bits(micro.run(place / "parted", *these)) == micro.bits(whole)
    found[compile] = micro.losses(whole), micro.record_json(whole)
print(json.dumps(found))
"""


@pytest.fixture(name="toys", scope="module")
def toys_fixture(tmp_path_factory):
    """What the toys answered: {kernels.compile: (losses, record)} of runs, and what was refused, counted and hashed."""
    home = tmp_path_factory.mktemp("toys")
    ran = micro.python(START + CODE, json.dumps(WORDS), str(home), SPEEDRUN_PARTS=str(TOYS), timeout=300)
    assert ran.returncode == 0, ran.stderr[-3000:]
    return json.loads(ran.stdout.splitlines()[-1])


@pytest.mark.slow
@pytest.mark.parametrize("compile", ["off", "on"])
def test_a_toy_attention_memory_optimizer_and_residual_scheme_of_one_file_each_train_a_micro_lane(toys, compile):
    losses, record = toys[compile]
    assert losses[-1] < losses[0] - 0.5
    said = "; ".join(record["unranked_reasons"])
    assert all(f"{part} is not of this repository" in said for part in PARTS)
    width, length, layers = 32, 32, 2
    per_expert = 2 * width * 32
    small, ends = 3 * layers, width * 256  # shares of two residual schemes a layer, and of its memory
    assert record["counts"] == {
        "params_total": layers * (2 * width**2 + 8 * per_expert + 8 * width) + small + 2 * ends,
        "params_active": layers * (2 * width**2 + 2 * per_expert + 8 * width) + small + 2 * ends,
        "flops_per_token": 6 * (layers * (2 * width**2 + 2 * per_expert + 8 * width) + ends) + 3 * layers * width * length,
    }


@pytest.mark.slow
def test_what_a_part_cannot_do_or_does_not_go_with_is_refused(toys):
    assert toys["refused"] == [
        "model.qk_norm=true with model.attention=decay, which has no keys",
        "attention.decay.rate=2.0",
        "optim.signs.lr=-1.0",
        "model.attention='decoy'",
        "memory.echo.rate=2.0",
        "data.document_mask=true with model.attention=decay, which sees no documents",
    ]


@pytest.mark.slow
def test_what_a_part_says_of_itself_is_counted_and_hashed(toys):
    assert toys["counted"] == f"Beside(flops={2 * 3 * 32 * 32}, cache_values=0) 70.0"
    lane, plain, other = toys["hashes"]
    assert lane == plan_hash(compose(["lane=tiny-moe-16e"]).plan) and plain != other


BAD = {
    "attention/full.py": ("x = 1", "has the name of a part of this repository"),
    "optim/odd.py": (
        "from dataclasses import dataclass\n@dataclass\nclass Keys:\n    lr: float = 1.0\nPART = Keys",
        "optim.odd.lr has no mark",
    ),
    "optim/none.py": ("x = 1", "none.py has no PART"),
}


@pytest.mark.process
@pytest.mark.parametrize("name", BAD)
def test_a_part_that_is_none_is_refused_by_its_file(tmp_path, name):
    content, error = BAD[name]
    (tmp_path / name).parent.mkdir()
    (tmp_path / name).write_text(content)
    ran = micro.python("from harness.plan.schema import Plan", SPEEDRUN_PARTS=str(tmp_path))
    assert error in ran.stderr


@pytest.mark.process
def test_the_folder_of_parts_must_be_one(tmp_path):
    ran = micro.python("from harness.plan.schema import Plan", SPEEDRUN_PARTS=str(tmp_path / "nowhere"))
    assert "nowhere is no folder" in ran.stderr


@pytest.mark.parametrize("kind", parts.KINDS)
def test_every_part_is_a_file_that_can_be_chosen_and_whose_keys_leave_old_hashes_alone(kind):
    assert parts.names(kind)
    for name in parts.names(kind):
        assert parts.part(kind, name)
        if name not in parts.FIRST:
            keys = {key for key, _ in walk() if key.startswith(f"{kind}.{name}.")}
            assert keys <= LATER.keys()
