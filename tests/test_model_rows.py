"""Every attention, memory and residual scheme: documents of a few tokens, a sequence that comes in pieces, rows beside each
other."""

import micro
import pytest
import torch
from reading import drawn, tokens

from harness.model.build import build_model
from harness.model.where import Cache, Where
from harness.plan import parts
from harness.plan.compose import compose

SMALL = [
    *micro.MOE, "attention.mla.rank=8", "attention.mla.rotary=4", "attention.window.tokens=3", "attention.gated_delta.chunk=8",
    "attention.kda.chunk=8", "attention.nsa.block=4", "attention.nsa.chosen=3", "attention.nsa.window=3",
    "memory.bigram.columns=8", "memory.engram.rows=61", "memory.engram.columns=4", "memory.engram.heads=2",
    "memory.smear.channels=5", "memory.value_embeddings.channels=5",
]  # fmt: skip
KINDS = [
    *(f"model.attention={name}" for name in parts.names("attention")),
    "attention.full.kv_heads=1 attention.full.rotated=4 attention.full.key_offset=true attention.full.head_gate=true",
    "model.residual=lambdas", "model.residual=hyper", *(f"model.memories=[{name}]" for name in parts.names("memory")),
    f"model.memories=[{','.join(parts.names('memory'))}] model.residual=hyper",
]  # fmt: skip


def model_of(kind):
    plan = compose([*SMALL, *kind.split()]).plan
    return drawn(build_model(plan, "full"), plan)


def that_can(what):
    cannot = {f"model.attention={name}" for name in parts.names("attention") if what in parts.part("attention", name).CANNOT}
    return [kind for kind in KINDS if kind not in cannot]


@pytest.mark.parametrize("kind", that_can("document masks"))
def test_documents_of_a_few_tokens_are_read_as_they_are_alone(kind):
    """Shorter than n-grams, windows and convolutions reach, and other ones in each row."""
    model, token_BS = model_of(kind), tokens(2, 24)
    rows = [(1, 2, 1, 3, 9, 1, 7), (6, 4, 4, 4, 5, 1)]
    document_BS = torch.tensor([[7 + i for i, length in enumerate(row) for _ in range(length)] for row in rows])
    with torch.no_grad():
        packed = model.head.logits(model.trunk(Where(token_BS, document_BS=document_BS))[0])
        for row, lengths in enumerate(rows):
            first = 0
            for length in lengths:
                alone = model.logits(token_BS[row : row + 1, first : first + length])
                torch.testing.assert_close(packed[row : row + 1, first : first + length], alone, rtol=1e-4, atol=2e-5)
                first += length


@pytest.mark.parametrize("kind", that_can("decoding"))
@pytest.mark.parametrize("pieces", [(5, 1, 1, 9, 8), (1, 23), (2, 3, 19)])
def test_a_cache_takes_a_sequence_in_pieces(kind, pieces):
    model, token_BS, cache = model_of(kind), tokens(2, 24), Cache()
    with torch.no_grad():
        found = torch.cat([model.logits(piece, cache) for piece in token_BS.split(pieces, 1)], 1)
        torch.testing.assert_close(found, model.logits(token_BS), rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_what_a_row_says_depends_on_no_other_row_by_a_bit(kind):
    model, token_BS = model_of(kind), tokens(3, 24)
    with torch.no_grad():
        before = model.logits(token_BS)
        token_BS[1] = tokens(1, 24, seed=1)
        after = model.logits(token_BS)
    assert torch.equal(before[[0, 2]], after[[0, 2]]) and not torch.equal(before[1], after[1])
