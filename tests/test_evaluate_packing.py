"""CORE with every attention, memory and residual scheme: packed rows where all parts read them, else one sequence a row."""

import micro
import pytest
import torch
from test_evaluate_core_score import LONG, TOKENS, tiny_fixture  # noqa: F401

from harness.evaluate.own_model import OwnModel
from harness.model.build import build_model
from harness.model.init import initialize
from harness.plan import parts
from harness.plan.compose import compose
from tests.core_oracles.check import TOLERANCE, compare

SMALL = (
    "attention.nsa.chosen=2", "attention.mla.rotary=4", "attention.window.tokens=9", "memory.bigram.rows=997",
    "memory.bigram.columns=8", "memory.engram.rows=61",
)  # fmt: skip
OFFSET = "attention.full.rotated=8 attention.full.key_offset=true"
PACK = {"model.attention=full", "model.attention=mla", "model.attention=window", "model.memories=[value_embeddings]",
        "model.residual=lambdas", "model.residual=hyper", "attention.full.kv_heads=1"}  # fmt: skip
MODELS = sorted(
    PACK | {OFFSET}
    | {f"model.attention={name}" for name in parts.names("attention")}
    | {f"model.memories=[{name}]" for name in parts.names("memory")}
    | {f"model.memories=[{','.join(parts.names('memory'))}]", "model.attention_pattern=[full,kda]"}
)  # fmt: skip


def model_of(words):
    """Of any part, with all that starts at 0 drawn, so that each has a say; and a head that repeats what it reads."""
    plan = compose([*micro.DENSE, *SMALL, *words.split()]).plan
    plan.model.sequence_length, plan.model.vocab_size = LONG, TOKENS.vocab_size
    model, draws = build_model(plan, "full"), torch.Generator().manual_seed(1)
    plan.init.zero_output = False
    initialize(model, plan.init, 1)
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(torch.where(p == 0, torch.randn(p.shape, generator=draws) * 0.1, p))
        model.head.weight.copy_(model.embedding.T / 8)
    return model.eval()


@pytest.mark.parametrize("words", MODELS)
def test_models_of_every_part_answer_alike_packed_and_alone_or_are_never_given_a_packed_row(tiny, words):
    transformer = model_of(words)
    model = OwnModel(transformer)
    assert model.packs == (words in PACK)
    trunk, packed = transformer.trunk, []
    transformer.trunk = lambda where: packed.append(where.visible_BSS is not None) or trunk(where)
    for task in tiny:
        found = compare(model, TOKENS, task, 4)
        assert found.wrong == [] and found.largest <= TOLERANCE, found
    assert any(packed) == model.packs


@pytest.mark.parametrize("words", sorted(set(MODELS) - PACK))
def test_a_packed_row_that_a_part_would_misread_is_refused(words):
    row_BS = torch.ones(1, 6, dtype=torch.int64)
    with pytest.raises(AssertionError, match="reads no packed row"):
        OwnModel(model_of(words)).score(row_BS, row_BS, torch.arange(6)[None], torch.ones(1, 6, 6, dtype=torch.bool).tril())
