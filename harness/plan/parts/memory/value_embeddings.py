"""Keys of value embeddings; the mathematics: `harness/model/memory/value_embeddings.py`."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.errors import UserError
from harness.plan import parts
from harness.plan.marks import frozen

if TYPE_CHECKING:
    from harness.plan.schema import Plan


@dataclass
class Keys:
    every: int = frozen(2, least=1, later=True)  # the last layer and every n-th before it have a table
    channels: int = frozen(12, least=1, later=True)  # of the attention's input, which the gates read


def check(plan: "Plan") -> None:
    k, m = plan.memory.value_embeddings, plan.model
    parts.need_heads(plan, "model.memories=value_embeddings", "use an attention that has them, or leave value_embeddings out")
    if k.channels > m.width:
        raise UserError(
            f"memory.value_embeddings.channels={k.channels} of model.width={m.width}",
            f"choose at most memory.value_embeddings.channels={m.width}",
        )
