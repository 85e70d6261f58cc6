"""The way of rows in expert parallelism, with ranks that one process plays: everything but the wires, on one GPU or none.

Letters: T tokens, K top-k, R rows, D width, G pre-activation width, F expert width, P ranks in name, E experts, N = E/P experts
of each.

The tokens of a micro-batch are P contiguous stretches, as if each were a rank's. A source sends its rows as `all_to_all` does,
by expert, token and slot; an exchange is a copy from the order (source, expert) to (expert, source). To an owner what all
sources have for it are the rows of one unit (`kernels.units`), where those of `all_to_all` have a unit each. So an expert meets
its rows in the order of tokens and slots, as in one process without ranks, and outputs and all gradients, those of weights too,
have the bits of `local`.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from harness.model.arrangement import outgoing
from harness.model.transport import Transport
from harness.plan.schema import Model
from harness.ranks import Ranks
from kernels.activation import ACTIVATIONS
from kernels.backends import OPERATORS, operands_of
from kernels.beside import Beside, looks_beside, noise_slots, scales_tensors
from kernels.precision import Precision
from kernels.routing import check_ids, check_weights
from kernels.stages import stage
from kernels.units import Layer, of_units


class Loopback(Transport):
    """`ranks`: as many as are played, of which nobody but this process is there."""

    def __init__(self, model: Model, keys: Any, ranks: Ranks):
        super().__init__(model, keys, ranks)
        assert model.num_experts % ranks.world == 0, (model.num_experts, ranks.world)

    def experts(
        self, x_TD: Tensor, up_EDG: Tensor, down_EFD: Tensor, expert_TK: Tensor, weight_TK: Tensor, *, activation: str,
        backend: str, precision: Precision, key_4: Tensor | None, debug: bool = False,
        operands: tuple[Tensor, Tensor] | None = None,
    ) -> Tensor:  # fmt: skip
        inputs = (x_TD, up_EDG, down_EFD, expert_TK, weight_TK, key_4, *(operands or (None, None)))
        return _forward_op(*inputs, activation, str(precision), backend, self.ranks.world, debug)[0]


@torch.library.custom_op("moe_speedrun::loopback_experts", mutates_args=())
def _forward_op(
    x_TD: Tensor, up_EDG: Tensor, down_EFD: Tensor, expert_TK: Tensor, weight_TK: Tensor, key_4: Tensor | None,
    operand_up: Tensor | None, operand_down: Tensor | None, activation: str, precision: str, backend: str, world: int,
    debug: bool,
) -> list[Tensor]:  # fmt: skip
    """y_TD in fp32; for the backward: which rows went (R), source by source, and where each (T, K) is in those of its source,
    how many of each source for each expert (P, E), the rows (R, D) and their routing weights (R) as owners have them, and what
    the backend keeps of them, with how much of it is each owner's."""
    known = Precision.of(precision)
    if debug:
        check_ids(expert_TK, len(up_EDG))
        check_weights(weight_TK)
    with stage("counts"):
        row_R, place_TK, count_PE = _sent(expert_TK, len(up_EDG), world)
    with stage("dispatch"):
        x_RD = _turned(known.arithmetic.operand(x_TD)[row_R // expert_TK.shape[1]], count_PE.T)
        weight_R = _turned(weight_TK.reshape(-1)[row_R].float(), count_PE.T)
    weights = operands_of(OPERATORS[backend], known, (up_EDG, down_EFD), (operand_up, operand_down))
    y_RD, kept = torch.empty_like(x_RD), []
    owners = _owners(activation, known, key_4, row_R, expert_TK.shape[1], count_PE)
    rows = _by_owner(count_PE, x_RD, weight_R, y_RD)
    for (count_1N, layer), share, (x, weight, y) in zip(owners, _shares(weights, world), rows):
        found, *left = of_units(backend, known).forward(x, *share, count_1N, weight, layer)
        y.copy_(found)
        kept.append(left)
    with stage("return"):
        home_RD = _turned(y_RD, count_PE)
    with stage("combine"):
        y_TD = _combined(backend, home_RD, place_TK, count_PE, down_EFD, known)
    sizes = torch.tensor([[len(t) for t in left] for left in kept], device="cpu")
    return [y_TD, row_R, place_TK, count_PE, x_RD, weight_R, sizes, *map(torch.cat, zip(*kept))]


@_forward_op.register_fake
def _(
    x_TD, up_EDG, down_EFD, expert_TK, weight_TK, key_4, operand_up, operand_down, activation, precision, backend, world, debug
):  # fmt: skip
    size, dtype = torch.library.get_ctx().new_dynamic_size, Precision.of(precision).arithmetic.dtype
    sent, saved, (experts, width, outer) = size(), size(), up_EDG.shape
    shapes = OPERATORS[backend].kept(1, 1, experts)
    count_PE, sizes = (torch.empty(world, of, dtype=torch.int64, device="cpu") for of in (experts, 1 + len(shapes)))
    return [
        x_TD.new_empty(x_TD.shape, dtype=torch.float32), expert_TK.new_empty(sent), expert_TK.new_empty(expert_TK.shape),
        count_PE, x_TD.new_empty(sent, width, dtype=dtype), weight_TK.new_empty(sent, dtype=torch.float32), sizes,
        x_TD.new_empty(saved, outer, dtype=dtype), *(expert_TK.new_empty(size(), *shape[1:]) for shape in shapes),
    ]  # fmt: skip


@torch.library.custom_op("moe_speedrun::loopback_experts_backward", mutates_args=())
def _backward_op(
    dy_TD: Tensor, up_EDG: Tensor, down_EFD: Tensor, key_4: Tensor | None, operand_up: Tensor | None,
    operand_down: Tensor | None, row_R: Tensor, place_TK: Tensor, count_PE: Tensor, x_RD: Tensor, weight_R: Tensor,
    sizes: Tensor, kept: list[Tensor], activation: str, precision: str, backend: str,
) -> list[Tensor]:  # fmt: skip
    """dx_TD, dup_EDG, ddown_EFD and dweight_TK, all in fp32."""
    known, world, top_k = Precision.of(precision), len(count_PE), place_TK.shape[1]
    with stage("dispatch"):
        dy_RD = _turned(known.arithmetic.operand(dy_TD)[row_R // top_k], count_PE.T)
    weights = operands_of(OPERATORS[backend], known, (up_EDG, down_EFD), (operand_up, operand_down))
    dx_RD, dweight_R, dweights = torch.empty_like(x_RD), torch.empty_like(weight_R), []
    owners = _owners(activation, known, key_4, row_R, top_k, count_PE)
    left = zip(*(t.split(of_owners) for t, of_owners in zip(kept, sizes.T.tolist())))
    rows = _by_owner(count_PE, dy_RD, x_RD, weight_R, dx_RD, dweight_R)
    for (count_1N, layer), share, saved, (dy, x, weight, dx, dweight) in zip(owners, _shares(weights, world), left, rows):
        *found, of_weights = of_units(backend, known).backward(dy, x, *share, count_1N, weight, layer, None, *saved)
        for out, value in zip((dx, dweight), found):
            out.copy_(value)
        dweights.append(of_weights)
    with stage("return"):
        home_RD, home_R = _turned(dx_RD, count_PE), _turned(dweight_R, count_PE)
    with stage("combine"):
        dx_TD = _combined(backend, home_RD, place_TK, count_PE, down_EFD, known)
        dweight_TK = torch.cat([row_S[place] for row_S, place in _by_source(home_R, place_TK, count_PE)])
    return [dx_TD, *map(torch.cat, zip(*dweights)), dweight_TK]


@_backward_op.register_fake
def _(
    dy_TD, up_EDG, down_EFD, key_4, operand_up, operand_down, row_R, place_TK, count_PE, x_RD, weight_R, sizes, kept,
    activation, precision, backend,
):  # fmt: skip
    shapes = (dy_TD.shape, up_EDG.shape, down_EFD.shape, place_TK.shape)
    return [dy_TD.new_empty(shape, dtype=torch.float32) for shape in shapes]


def _sent(expert_TK: Tensor, experts: int, world: int) -> tuple[Tensor, Tensor, Tensor]:
    """`row_R`, the rows (t*K + k) that sources send, one source after the other; `place_TK` and `count_PE` of every source, as
    `outgoing` has them of one, the counts on the host. Some sources have no token where there are fewer than ranks."""
    stretches = expert_TK.tensor_split(world)
    found, first, rows = [outgoing(stretch, experts) for stretch in stretches], 0, []
    for stretch, of_source in zip(stretches, found):
        rows.append(of_source.row_R + first)
        first += stretch.numel()
    count_PE = torch.stack([of_source.count_E for of_source in found]).cpu()
    return torch.cat(rows), torch.cat([of_source.place_TK for of_source in found]), count_PE


def _turned(row_RX: Tensor, count_AB: Tensor) -> Tensor:
    """(R, ...): rows in the order (a, b), of those in the order (b, a). `count_AB`: how many each block has, int64, on the
    host."""
    begin_AB = (count_AB.flatten().cumsum(0).view_as(count_AB) - count_AB).flatten()
    begin_BA = count_AB.T.flatten().cumsum(0).view(count_AB.T.shape) - count_AB.T
    shift_AB, count_AB = (t.to(row_RX.device) for t in (begin_BA.T.flatten() - begin_AB, count_AB.flatten()))
    there_R = torch.arange(len(row_RX), device=row_RX.device)
    return row_RX.index_select(0, there_R + shift_AB.repeat_interleave(count_AB, output_size=len(row_RX)))


def _owners(
    activation: str, known: Precision, key_4: Tensor | None, row_R: Tensor, top_k: int, count_PE: Tensor
) -> Iterator[tuple[Tensor, Layer]]:
    """(P) an owner's rows for each of its experts, int64 (1, N), on the host, and what it computes. `row_R`: as sources send
    them, which noise counts."""
    count_PN = count_PE.sum(0).view(len(count_PE), -1)
    layer = Layer(ACTIVATIONS[activation], known, key_4, count_PE.shape[1], top_k)
    if not looks_beside(known.quantization):
        yield from ((count_N.unsqueeze(0), layer) for count_N in count_PN)
        return
    assert not scales_tensors(known.quantization), "one owner after the other: nobody knows the largest magnitude of all"
    slots_E = noise_slots(count_PE.sum(0), known.quantization.block)
    first_P = (slots_E.cumsum(0) - slots_E)[:: count_PN.shape[1]].tolist()
    rows = _by_owner(count_PE, _turned(row_R, count_PE.T))
    for count_N, (row_S,), first in zip(count_PN, rows, first_P):
        place = key_4, Beside(row_S, top_k, first, lambda tensor, found: found)
        yield count_N.unsqueeze(0), layer._replace(places=lambda unit, place=place: place)


def _by_owner(count_PE: Tensor, *row_RX: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """(P) an owner's rows of each tensor."""
    rows_P = count_PE.sum(0).view(len(count_PE), -1).sum(1).tolist()
    return zip(*(t.split(rows_P) for t in row_RX))


def _shares(weights: tuple[Tensor, Tensor], world: int) -> Iterator[tuple[Tensor, ...]]:
    """(P) both weights' experts of every owner."""
    return zip(*(w.chunk(world) for w in weights))


def _combined(
    backend: str, home_RD: Tensor, place_TK: Tensor, count_PE: Tensor, down_EFD: Tensor, known: Precision
) -> Tensor:  # fmt: skip
    """fp32 (T, D): each source's sums over k of what came home."""
    combine = OPERATORS[backend].combine
    return torch.cat([combine(*of_source, down_EFD, known) for of_source in _by_source(home_RD, place_TK, count_PE)])


def _by_source(row_RX: Tensor, place_TK: Tensor, count_PE: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """The rows of every source that has tokens, a row of zeros behind them where dropped ones look, and the places in them."""
    nothing = row_RX.new_zeros(1, *row_RX.shape[1:])
    for rows, place in zip(row_RX.split(count_PE.sum(1).tolist()), place_TK.tensor_split(len(count_PE))):
        if len(place):
            yield torch.cat([rows, nothing]), place


def _setup(ctx, inputs, output) -> None:
    x_TD, up_EDG, down_EFD, _, weight_TK, key_4, operand_up, operand_down, *how = inputs
    ctx.activation, ctx.precision, ctx.backend, *_ = how
    ctx.dtypes = x_TD.dtype, up_EDG.dtype, down_EFD.dtype, weight_TK.dtype
    ctx.save_for_backward(up_EDG, down_EFD, key_4, operand_up, operand_down, *output[1:])
    ctx.set_materialize_grads(False)


def _backward(ctx, grads):
    saved = ctx.saved_tensors  # once: a checkpointed block computes them again
    found = _backward_op(grads[0], *saved[:11], list(saved[11:]), ctx.activation, ctx.precision, ctx.backend)
    dx_TD, dup_EDG, ddown_EFD, dweight_TK = (g.to(dtype) for g, dtype in zip(found, ctx.dtypes))
    return dx_TD, dup_EDG, ddown_EFD, None, dweight_TK, *[None] * 8


_forward_op.register_autograd(_backward, setup_context=_setup)


PART = Loopback
