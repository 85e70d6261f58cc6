"""The parts of a step, and which part the time of an operator belongs to.

To teach it an operator, add a pattern to OPERATORS. An operator that no pattern knows is counted with what called it, and
where nothing known did, under OTHER by its name, so that no time is lost.
"""

import re
from collections.abc import Iterable, Sequence
from functools import cache
from typing import NamedTuple

ATTENTION, DENSE, EXPERTS = "attention", "dense products", "expert products"
ROUTER, GATHERS, ELEMENTWISE, HEAD = "router", "gathers and metadata", "casts and elementwise", "embedding and head"
NORMS, OTHER, HOST = "gradient norms", "other operators", "host"
OPTIMIZER = "optimizer: "  # and the name of its file in harness/optim/optimizers
BEFORE_OPTIMIZERS, AFTER = (ATTENTION, DENSE, EXPERTS, ROUTER, GATHERS, ELEMENTWISE, HEAD), (NORMS, OTHER, HOST)

# The stages that an expert MLP and its transport report (kernels/stages.py). What its operator does outside of them is EXPERTS.
STAGE = {
    "metadata": GATHERS, "gather": GATHERS, "combine": GATHERS, "activation": ELEMENTWISE, "up": EXPERTS, "down": EXPERTS,
    "dH": EXPERTS, "dW": EXPERTS, "dX": EXPERTS, "fused": EXPERTS, "counts": GATHERS, "dispatch": GATHERS, "return": GATHERS,
}  # fmt: skip

# Products are told apart by their shapes, the expert MLP by its number of experts.
PRODUCT = re.compile(r"aten::(mm|addmm|bmm|baddbmm|_scaled_mm|_grouped_mm)$")
EXPERT_MLP = re.compile(r"moe_speedrun::(expert_mlp|(spread|loopback)_experts)")
_ROUTING = r"sigmoid|softmax|topk|isnan|remainder|gather|scatter"
_FUSED = r"(cpp|triton_\w+?)_fused"  # Inductor's kernels, named after what they fuse: cpp_fused_..., triton_poi_fused_...
# (pattern, found anywhere in the name; part): the first that fits counts. Of a model without experts ROUTER is ELEMENTWISE.
OPERATORS = tuple((re.compile(pattern), part) for pattern, part in (
    (r"log_softmax|nll_loss|cross_entropy", HEAD),
    (rf"{_FUSED}\w*silu", ELEMENTWISE),  # SwiGLU's, whose derivative has a sigmoid in it
    (rf"{_FUSED}\w*({_ROUTING})", ROUTER),
    (_FUSED, ELEMENTWISE),
    (r"moe_speedrun::attention", ATTENTION),
    (r"moe_speedrun::(thin_product|select_experts)", ROUTER),
    (r"scaled_dot_product|_flash_attention|_efficient_attention|cudnn_attention|flex_attention", ATTENTION),
    (r"moe_speedrun::(polar|orthogonalize|newton_schulz)", OPTIMIZER + "muon"),
    (r"aten::_?fused_adamw", OPTIMIZER + "adamw"),
    (r"aten::embedding(_dense)?(_backward)?$", HEAD),
    (rf"aten::_?({_ROUTING})", ROUTER),
    (r"aten::_?(sort|argsort|index|cumsum|bincount|searchsorted|repeat_interleave|nonzero|embedding_bag)", GATHERS),
    # views, allocations and wrappers of other operators compute nothing themselves
    (r"aten::(empty|new_empty|as_strided|_?unsafe_view|_?reshape|view|t$|transpose|permute|slice|select|split|chunk|expand|"
     r"(un)?squeeze|detach|alias|unbind|narrow|numpy_T|lift_fresh|resize_|set_|item|_local_scalar_dense|is_nonzero|unflatten|"
     r"flatten|matmul|linear$|result_type|promote_types|type_as|_to_cpu|to$|contiguous)", HOST),
    (r"aten::_?(foreach_)?(add|sub|rsub|mul|div|neg|pow|square|sqrt|rsqrt|reciprocal|exp|log|abs|sign|mean|sum|norm|"
     r"linalg_vector_norm|max|min|amax|amin|clamp|relu|threshold|silu|gelu|where|masked_fill|copy|to_copy|clone|cat|stack|fill|"
     r"zero|ones|full|new_zeros|arange|lerp|addc|logical|bitwise|lt|le|gt|ge|eq|ne|floor_divide|logsumexp|tril|triu|any|all|"
     r"local_scalar|constant_pad)", ELEMENTWISE),
    (r"aten::__(and|or|xor|lshift|rshift)__|^Mem(cpy|set)", ELEMENTWISE),
    (r"^(torch::)?autograd::", HOST),
))  # fmt: skip


class Place(NamedTuple):
    """`part` of what happens there; `whole`: of all that is called from there, whatever its name."""

    part: str
    whole: bool = False


NOWHERE = Place(HOST)
MARK = "part: "  # begins the name of a mark of `scopes`; the part follows


class Products:
    """Which part a matrix product belongs to, by the dimensions of its weight."""

    def __init__(self, weights: Iterable[tuple[str, tuple[int, ...], bool]], experts: int):
        """`weights`: (part, (inner, outer), whether it multiplies in fp32 whatever the others do)."""
        self.experts = experts
        self.known: dict[tuple[tuple[int, ...], bool], set[str]] = {}
        for part, shape, full in weights:
            self.known.setdefault((tuple(sorted(shape[-2:])), full), set()).add(part)

    def part(self, shapes: Sequence[Sequence[int]], full: bool | None) -> str:
        """`shapes` of the operands (M, K) and (K, N), `full`: they are fp32, None where nobody says. Of M, K and N two are the
        weight's."""
        (m, k), n = shapes[0][-2:], shapes[1][-1]
        found: set[str] = set()
        for pair in ((m, k), (m, n), (k, n)):
            for kind in (True, False) if full is None else (full,):
                found |= self.known.get((tuple(sorted(pair)), kind), set())
        if not found:
            return ATTENTION if len(shapes[0]) == 3 else OTHER  # an attention that is written out
        return min(found, key=(DENSE, ROUTER, EXPERTS, HEAD).index)

    def shared(self) -> list[tuple[int, ...]]:
        """Dimensions that a dense product and another one have in common: no shape tells those apart."""
        return [pair for (pair, _), parts in self.known.items() if DENSE in parts and len(parts) > 1]


@cache
def _known(name: str) -> str | None:
    return next((part for pattern, part in OPERATORS if pattern.search(name)), None)


def place(name: str, shapes: Sequence[Sequence[int]], dtypes: Sequence[str], caller: Place, products: Products) -> Place:
    """Where the own time of an operator (or kernel, or mark of a profiler) belongs."""
    if caller.whole:
        return caller
    if name.startswith(MARK):
        return Place(name.removeprefix(MARK), whole=True)
    if PRODUCT.search(name):
        operands = [i for i, shape in enumerate(shapes) if len(shape) >= 2]
        chosen = operands[1:3] if "add" in name else operands[:2]  # what is added to comes before the operands
        if len(chosen) == 2:
            full = all(dtypes[i] == "float" for i in chosen) if all(dtypes[i] for i in chosen) else None
            return Place(products.part([shapes[i] for i in chosen], full), whole=True)
    elif EXPERT_MLP.search(name):
        stacks = [shape for shape in shapes if len(shape) == 3]
        one = bool(stacks) and stacks[0][0] == 1 != products.experts  # a dense FFN below bf16
        return Place(DENSE, whole=True) if one else Place(EXPERTS)
    if part := _known(name):
        part = ELEMENTWISE if part == ROUTER and not products.experts else part
        return Place(part, whole=part != HOST)
    if "::" in name:  # an operator has a namespace, a mark of the compiler or of autograd none
        return Place(OTHER if caller.part == HOST else caller.part)
    return caller


def order(found: Iterable[str]) -> list[str]:
    """The parts that are there, each once, in the order in which tables and figures have them."""
    names = set(found)
    optimizers = sorted(name for name in names if name.startswith(OPTIMIZER))
    return [name for name in (*BEFORE_OPTIMIZERS, *optimizers, *AFTER) if name in names]
