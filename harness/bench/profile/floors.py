"""What each part of a step must cost at least: FLOPs against the measured peak, bytes against the measured bandwidth.

From the shapes of the model that a plan builds, never from what was run. Letters: T tokens of a step, I and O inner and outer
dimension of a matrix, D width, F hidden width, G pre-activation width, K top-k, p bytes of an operand. An array is read or
written once by each product, and once by each chain of elementwise work between two products; what an implementation fuses
beyond that it may gain below the floor. Rows that a capacity drops are counted.

- A product forward and twice backward: 6TIO FLOPs, 3p(TI + TO + IO) bytes, its weights in every micro-batch.
- Expert products: the stages of `harness.bench.floor.work`, activation at the end of a product. Gathers: its combines, and ids.
- Attention: the FLOPs that the part says (`Part.flops`); q, k, v, o and their gradients, 12pTD bytes.
- Router: its product in fp32, against the fp32 peak; ids and weights written.
- Elementwise, a block: two sublayers of (20 + 4p)TD for the fp32 stream, norm and operands; the rotation, (8 or 10)pTD; the
  activation of a dense FFN, pT(2F + 3G). Once a step weights are cast to operands.
- Embedding and head: rows of the embedding forward and backward, the head's product, no logits in memory.
- Optimizers: a gradient read, parameter and state read and written, in fp32; Muon's symmetric products count half.
"""

from collections import defaultdict
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

from harness.bench.floor import work, work_fp8
from harness.bench.profile.parts import ATTENTION, DENSE, ELEMENTWISE, EXPERTS, GATHERS, HEAD, NORMS, OPTIMIZER, ROUTER
from harness.bench.profile.scopes import optimizers
from harness.bench.shapes import Shape
from harness.model.init import owned
from harness.plan import parts
from harness.train.machine import Machine
from kernels import Arithmetic
from kernels.activation import ACTIVATIONS

if TYPE_CHECKING:
    from harness.optim.optimizers.muon import Muon
    from harness.train.session import Session


class Work(NamedTuple):
    part: str
    flops: float = 0.0  # at the peak of products
    fp32_flops: float = 0.0
    size: float = 0.0  # bytes


def floors(session: "Session", here: Machine) -> dict[str, dict[str, float | str]]:
    """By part: flops, bytes, milliseconds, and what binds them."""
    total: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0, 0.0])
    for one in (*_products(session, here), *_experts(session, here), *_elementwise(session), *_optimizers(session)):
        total[one.part] = [a + b for a, b in zip(total[one.part], one[1:])]
    found = {}
    for part, (flops, fp32_flops, size) in total.items():
        computing = flops / here.matmul_peak_flops + fp32_flops / here.fp32_peak_flops
        moving = size / here.memory_bytes_per_s
        found[part] = {
            "flops": flops + fp32_flops, "bytes": size, "floor_ms": 1e3 * max(computing, moving),
            "bound": "flops" if computing >= moving else "bytes",
        }  # fmt: skip
    return found


def _operand_bytes(session: "Session") -> int:
    return Arithmetic.of(session.machine.arithmetic).dtype.itemsize


def _passes(session: "Session") -> int:
    """Micro-batches of a step: a product reads its weights in each."""
    tokens = session.steps.tokens(0)
    return tokens // session.plan.model.sequence_length // session.micro_sequences[tokens]


def _products(session: "Session", here: Machine) -> Iterator[Work]:
    tokens, p = session.steps.tokens(0), _operand_bytes(session)
    width, passes = session.plan.model.width, _passes(session)
    of_group = {"dense": DENSE, "router": ROUTER, "head": HEAD}
    for _, parameter, module, own in owned(session.model):
        if own.group in of_group:
            inner, outer = parameter.shape[-2:]
            flops, size = 6 * tokens * parameter.numel(), 3 * (tokens * (inner + outer) + passes * parameter.numel())
            if own.group == "router":
                yield Work(ROUTER, 0, flops, 4 * size)
            else:
                yield Work(of_group[own.group], flops * (4 / 6 if _doubled(module, here) else 1), 0, p * size)
        elif own.group == "embedding":
            yield Work(HEAD, size=4 * (3 * tokens * width + parameter.numel()))
    for block in session.model.blocks:
        yield Work(ATTENTION, tokens * block.attention.flops(), 0, 12 * p * tokens * width)


def _doubled(module: object, here: Machine) -> bool:
    """Whether a part's products forward and into its input run at twice the peak."""
    precision = getattr(module, "precision", None)
    dials = precision.quantization if precision else None
    return dials is not None and dials.format == "fp8" and here.execution("fp8") == "native"


def _experts(session: "Session", here: Machine) -> Iterator[Work]:
    m, passes, tokens = session.plan.model, _passes(session), session.steps.tokens(0)
    shape = Shape(tokens // passes, m.width, m.expert_width, m.num_experts, m.top_k, m.activation)
    for layer in session.model.moe_layers:
        fp8 = _doubled(session.model.blocks[layer].feedforward, here)
        for stage, (flops, size) in (work_fp8(shape) if fp8 else work(shape, _operand_bytes(session))).items():
            part = GATHERS if stage.startswith("combine") else EXPERTS
            yield Work(part, passes * flops, 0, passes * size)
        yield Work(ROUTER, size=(8 + 4) * tokens * m.top_k)  # ids and weights are written,
        yield Work(GATHERS, size=8 * tokens * m.top_k)  # and ids read


def _elementwise(session: "Session") -> Iterator[Work]:
    tokens, p, m = session.steps.tokens(0), _operand_bytes(session), session.plan.model
    stream, rotated = 2 * (20 + 4 * p) * m.width, (8 + 2 * m.qk_norm) * p * m.width
    for block in session.model.blocks:
        feedforward = block.feedforward
        mlp = getattr(feedforward, "shared", feedforward)  # of a MoE block its shared experts, if any
        hidden = mlp.down.shape[-2] * (2 + 3 * ACTIVATIONS[m.activation].fan) if mlp is not None else 0
        yield Work(ELEMENTWISE, size=tokens * (stream + rotated + p * hidden))
    if session.machine.arithmetic != "full":
        matrices = sum(q.numel() for _, q, _, own in owned(session.model) if own.group in ("dense", "expert", "head"))
        yield Work(ELEMENTWISE, size=(4 + p) * matrices)


def _optimizers(session: "Session") -> Iterator[Work]:
    plan, everything = session.plan, 0
    for name, update in optimizers(session):
        parameters, state = (sum(t.numel() for t in held.values()) for held in (update.parameters, update.state()))
        stated = parts.without_torch("optim", name)
        if name == "muon":
            flops = _iterations(update)
        else:
            flops = stated.flops_per_step(plan, parameters) if hasattr(stated, "flops_per_step") else 0
        yield Work(OPTIMIZER + name, flops, 0, 4 * (3 * parameters + 2 * state))
        everything += parameters
    yield Work(NORMS, size=4 * everything * (3 if plan.optim.clip_norm else 1))


def _iterations(update: "Muon") -> float:
    """FLOPs of Newton-Schulz on all of Muon's matrices; x x^T, and what is made of it alone, are symmetric."""
    total = 0
    for (inner, outer, steps), names in update.stacks.items():
        rows, columns = min(inner, outer), max(inner, outer)
        count = sum(update.parameters[name].numel() for name in names) // (rows * columns)
        product, square, once = 2 * rows * rows * columns, rows * rows * (rows + 1), rows * (rows + 1) * columns
        if lengths := update.segments(inner, outer, steps):
            total += count * sum(once + product + (4 * length - 3) * square for length in lengths)
        else:
            total += count * steps * (once + square + product)
    return total
