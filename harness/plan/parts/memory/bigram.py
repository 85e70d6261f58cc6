"""Keys of the table of bigrams; the mathematics: `harness/model/memory/bigram.py`."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.errors import UserError
from harness.plan.marks import frozen

if TYPE_CHECKING:
    from harness.plan.schema import Plan

EXACT = 256  # a larger vocabulary's pairs are hashed: 50,257^2 rows of 64 would be 647 GB


@dataclass
class Keys:
    rows: int = frozen(0, least=0, later=True)  # 0: one for each pair, of bytes alone; else pairs share them by a hash
    columns: int = frozen(64, least=0, later=True)  # of a row, which a projection widens; 0: as wide as the stream


def check(plan: "Plan") -> None:
    k, m = plan.memory.bigram, plan.model
    if not k.rows and m.vocab_size > EXACT:
        raise UserError(
            f"memory.bigram.rows=0 with model.vocab_size={m.vocab_size}: {m.vocab_size**2:,} rows, one for each pair",
            f"let pairs share rows by a hash, for example memory.bigram.rows={5 * m.vocab_size}",
        )
    if k.rows > m.vocab_size**2:
        raise UserError(
            f"memory.bigram.rows={k.rows}, and model.vocab_size={m.vocab_size} has {m.vocab_size**2:,} pairs",
            f"choose at most memory.bigram.rows={m.vocab_size**2}",
        )
    if k.columns >= m.width:
        raise UserError(
            f"memory.bigram.columns={k.columns} of model.width={m.width} need no projection", "set memory.bigram.columns=0"
        )
