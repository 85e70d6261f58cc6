"""Keys of smear; the mathematics: `harness/model/memory/smear.py`."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.errors import UserError
from harness.plan.marks import frozen

if TYPE_CHECKING:
    from harness.plan.schema import Plan


@dataclass
class Keys:
    channels: int = frozen(12, least=1, later=True)  # of an embedding, which its gate reads


def check(plan: "Plan") -> None:
    k, width = plan.memory.smear, plan.model.width
    if k.channels > width:
        raise UserError(
            f"memory.smear.channels={k.channels} of model.width={width}", f"choose at most memory.smear.channels={width}"
        )
