"""What each process runs for test_train_lockstep.py: scores of val and of public sets. Not a test itself.

usage: lockstep_on_ranks.py FOLDER CASE ...      each rank writes FOLDER/RANK.json: {case: what it found}; "val: NAME" is of a
case of units_on_ranks, "fault" of one whose second batch cannot be quantized; "sets", "broken sets", "tasks" are public ones
"""

import hashlib
import json
import sys
from pathlib import Path
from types import SimpleNamespace

import torch
from ranked_scoring import PAGE, small_public_sets
from small_tokens import small_tokenizer
from test_train_ranks_public import WORDS
from test_train_task_scores import WORDS as TASK_WORDS
from units_on_ranks import UNITS, session

from harness.data import counted
from harness.errors import UserError
from harness.evaluate import answering, public, rolling, tasks, wikitext
from harness.evaluate.bpb import score
from harness.evaluate.core import score as core
from harness.evaluate.lockstep import Lockstep
from harness.evaluate.own_model import OwnModel
from harness.plan.compose import compose
from harness.ranks import Ranks, join, leave
from harness.train import machine
from harness.train.determinism import set_torch
from harness.train.session import Session
from kernels import NonFiniteOperand

PIECES, WINDOWS, LAST = 5, 2, 10  # of val: full batches of 128 tokens, whole windows after them, and the short last one
TOKENS = PIECES * 128 + WINDOWS * 32 + LAST + 1
FAULTY = "fp8"
TASKS = ["lane=physics-moe-16e", "model.num_experts=8", "model.expert_width=16", "model.top_k=2", *TASK_WORDS, *UNITS]


def spread(ranks: Ranks) -> list[str]:
    return [f"parallel.ep={ranks.world}"]


def lockstep(built: Session) -> Lockstep:
    assert bool(built.sums.spread) == (built.ranks.world > 1 and bool(built.model.moe_layers))
    return Lockstep(built.ranks, around=built.sums.together)


def of_val(case: str, ranks: Ranks) -> dict:
    """Bits of a score of val, of its first part, and of that with shuffled routing; on every rank."""
    built = session(case, ranks, *UNITS, *(spread(ranks) if built_of_experts(case) else ()))
    found, val = {}, built.corpus.val
    for name, tokens, seed in (("val", TOKENS, None), ("slice", 300, None), ("shuffled", 300, 0), ("short", 20, None)):
        it = score(
            built.model, val[:tokens], 128, seed, built.corpus.token_bytes, answer_N=built.corpus.answer_N,
            lockstep=lockstep(built),
        )  # fmt: skip
        found[name] = [
            hashlib.sha256(it.nats_N.tobytes()).hexdigest(),
            it.count_LE.tolist(),
            it.margin_L.numpy().tobytes().hex(),
        ]
        found[name].append(it.bpb())
    return found


def built_of_experts(case: str) -> bool:
    return case != "dense, clipped"


def fault(ranks: Ranks) -> str:
    """What a score says in which one token alone, which only the second batch has, is beyond numbers."""
    built = session(FAULTY, ranks, *UNITS, *spread(ranks))
    val = built.corpus.val[:TOKENS]
    inputs = [set(val[first : first + 128].tolist()) for first in range(0, TOKENS - 1, 128)]
    with torch.no_grad():
        built.model.embedding[min(inputs[1].difference(*(seen for at, seen in enumerate(inputs) if at != 1)))] = float("inf")
    try:
        score(built.model, val, 128, lockstep=lockstep(built))
    except NonFiniteOperand as found:
        return str(found)
    return "no fault"


def model_of(words: list[str], ranks: Ranks) -> Session:
    plan = compose([*words, *spread(ranks), "init.zero_output=false"]).plan
    built = Session(plan, machine.detect(plan), ranks, SimpleNamespace(batches=lambda *_: None))
    with torch.no_grad():
        built.model.head.weight.normal_(0, 0.25, generator=torch.Generator().manual_seed(1))
    return built


class Full:
    """A rank's file of answers, on a disk that has room for one."""

    def __init__(self, rank: int):
        self.rank, self.found = rank, {}

    def keep(self, chunk, answers) -> None:
        if self.found:
            raise UserError(f"the disk of rank {self.rank} is full")
        self.found[chunk] = answers


def scored(names: list[str], built: Session, kept: dict | None = None) -> dict:
    ranks, plan = built.ranks, built.plan
    tokenizer = None if "tasks" in names else small_tokenizer()
    steps = lockstep(built) if ranks.world > 1 else None
    return public.score_all(names, plan, OwnModel(built.model), tokenizer, lambda *_: None, ranks, kept, steps)


def of_sets(ranks: Ranks, folder: Path, kept: dict | None = None) -> dict:
    """WikiText of three batches, and CORE of five chunks."""
    small_public_sets(folder / f"home-{ranks.rank}")
    core.CHUNK = 8
    raw = "".join(PAGE.replace("First", f"Page{i}") for i in range(3))
    wikitext.raw_text = lambda: raw
    built = model_of([*WORDS, *UNITS, "batch.tokens_per_step=256"], ranks)
    texts = [small_tokenizer().encode(wikitext.detokenize(page)) for page in wikitext.pages(raw)]
    windows = sum(len(list(rolling.windows(0, text, built.plan.model.sequence_length, 0))) for text in texts)
    rolling_rows = rolling.BATCH_TOKENS // built.plan.model.sequence_length
    return scored(["wikitext", "core"], built, kept) | {"batches": -(-windows // rolling_rows)}


def of_tasks(ranks: Ranks) -> dict:
    """Beside what is scored, every token that this rank's passes wrote, by prompt."""
    tasks.INSTANCES, counted.TRAINING, counted.TESTS, written = 12, 64, 12, {}

    def noted(model, prompt_BP, *rest):
        found = answering.write(model, prompt_BP, *rest)
        return [written.setdefault(str(prompt.tolist()), tokens) for prompt, tokens in zip(prompt_BP, found)]

    tasks.write = noted
    found = scored(["tasks"], model_of(TASKS, ranks))
    return found | {"written": {prompt: tokens.tolist() for prompt, tokens in written.items()}}


def found_of(case: str, ranks: Ranks, folder: Path):
    set_torch()
    if case.startswith("val: "):
        return of_val(case.removeprefix("val: "), ranks)
    if case == "fault":
        return fault(ranks)
    if case == "tasks":
        return of_tasks(ranks)
    return of_sets(ranks, folder, {"core": Full(1)} if case == "broken sets" and ranks.rank == 1 else None)


if __name__ == "__main__":
    folder, *cases = sys.argv[1:]
    together = join(timeout_s=120)
    found = {case: found_of(case, together, Path(folder)) for case in cases}
    Path(folder, f"{together.rank}.json").write_text(json.dumps(found))
    leave(together)
