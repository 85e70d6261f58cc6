"""Rows go to the rank that holds their expert, and what it makes of them comes home: expert parallelism.

Letters: T tokens, K top-k, R rows that this rank sends, S rows that it gets, D width, G pre-activation width, F expert width, P
ranks, E experts, N = E/P experts of each.

A layer's pass, forward: counts (and whether somebody has stopped) to every owner; rows and routing weights; the owner takes the
rows of one source after the other through the backend, as a process that has these experts takes its own; they come home and
are summed in the order of k. Backward alike: gradients of outputs go, those of inputs and routing weights come.

Why no bit depends on P. From rank to rank numbers are copied, in the dtype that they have already. A row's outputs depend on
itself and its expert, whoever computes them. The gradient of an expert's weights is that of one source's rows, which is of one
unit, added to the sum so far in the order of sources, which is that of units; the first one is kept as it is. Autograd gets
none of it: it would add a round's sum at once.

Every pass has both exchanges, with no rows too, so that all ranks meet as often. Where one finds what its format cannot hold it
finishes the exchange it is in, says so in the next, and all of them leave the step (`Elsewhere` on those that found nothing).
"""

from itertools import count
from typing import Any
from weakref import WeakValueDictionary

import torch
from torch import Tensor

from harness.model.arrangement import Sources, outgoing
from harness.model.transport import Elsewhere, InRows, Transport
from harness.plan.schema import Model
from harness.ranks import Ranks
from kernels import NonFiniteOperand
from kernels.activation import ACTIVATIONS
from kernels.backends import OPERATORS, operands_of
from kernels.precision import Precision

_numbers = count()
_open: "WeakValueDictionary[int, AllToAll]" = WeakValueDictionary()  # by number: an operator is given tensors alone


class AllToAll(Transport):
    spread = True

    def __init__(self, model: Model, keys: Any, ranks: Ranks):
        super().__init__(model, keys, ranks)
        self.share = model.num_experts // ranks.world
        self.sums: list[Tensor] = []  # of both weights' gradients, over the units so far
        # A tensor, whose value nothing compiled depends on: the layers of a kind share a compilation.
        self.number = torch.tensor(next(_numbers), device="cpu")
        _open[int(self.number)] = self

    @property
    def held(self) -> range:
        return range(self.ranks.rank * self.share, (self.ranks.rank + 1) * self.share)

    def experts(
        self, x_TD: Tensor, up_NDG: Tensor, down_NFD: Tensor, expert_TK: Tensor, weight_TK: Tensor, *, activation: str,
        backend: str, precision: Precision, key_4: Tensor | None, debug: bool = False,
        operands: tuple[Tensor, Tensor] | None = None,
    ) -> Tensor:  # fmt: skip
        inputs = (x_TD, up_NDG, down_NFD, expert_TK, weight_TK, key_4, *(operands or (None, None)))
        return _forward_op(self.number, *inputs, activation, str(precision), backend, self.ranks.world)[0]

    def take_gradients(self) -> list[Tensor]:
        found, self.sums = self.sums, []
        return found

    def meet(self, count_PN: Tensor | None, stopped: bool = False) -> Tensor:
        """int64 (P, N), on the host: the rows that each source sends for each expert here. `count_PN`: those for each owner's,
        None of an exchange without new rows.

        Raises: Elsewhere where another rank has stopped, so that all leave at the same exchange."""
        device = self.number.device if count_PN is None else count_PN.device
        message = torch.zeros(self.ranks.world, self.share + 1, dtype=torch.int64, device=device)
        message[:, -1] = stopped
        if count_PN is not None:
            message[:, :-1] = count_PN
        found = self.ranks.exchange(message).cpu()
        if not stopped and bool(found[:, -1].any()):
            raise Elsewhere
        return found[:, :-1]

    def fold(self, *gradients: Tensor) -> None:
        """Adds what one unit's rows give the weights."""
        if not self.sums:
            self.sums = [g.to(torch.float32, copy=True) for g in gradients]
        else:
            for total, g in zip(self.sums, gradients):
                total.add_(g.to(torch.float32))


@torch.library.custom_op("moe_speedrun::spread_experts", mutates_args=())
def _forward_op(
    number: Tensor, x_TD: Tensor, up_NDG: Tensor, down_NFD: Tensor, expert_TK: Tensor, weight_TK: Tensor, key_4: Tensor | None,
    operand_up: Tensor | None, operand_down: Tensor | None, activation: str, precision: str, backend: str, world: int,
) -> list[Tensor]:  # fmt: skip
    """y_TD in fp32; for the backward: which rows went (R) and where each is in them (T, K), how many to each rank (P), how many
    came for each expert (P, N), these rows (S, D) and their routing weights (S), and what the backend keeps of them."""
    transport, known, it = _open[int(number)], Precision.of(precision), OPERATORS[backend]
    ranks, sent = transport.ranks, outgoing(expert_TK, transport.num_experts)
    count_PN = sent.count_E.view(world, transport.share)
    to_P, got_PN = count_PN.sum(1), transport.meet(count_PN)
    sources, to = Sources(it, got_PN), to_P.tolist()
    x_SD = ranks.exchange_rows(known.arithmetic.operand(x_TD)[sent.row_R // expert_TK.shape[1]], to, sources.rows_P)
    weight_S = ranks.exchange_rows(weight_TK.reshape(-1)[sent.row_R].float(), to, sources.rows_P)
    weights = operands_of(it, known, (up_NDG, down_NFD), (operand_up, operand_down))
    y_SD, kept, fault = torch.zeros_like(x_SD), [], None
    for source, (x, weight, y) in enumerate(sources.split(x_SD, weight_S, y_SD)):
        if fault is None and len(x):
            try:
                out, *left = it.forward(
                    x, *weights, sources.ids(source, x.device), weight.unsqueeze(1), ACTIVATIONS[activation], known, key_4
                )
            except NonFiniteOperand as found:
                fault = InRows(found, source)
                continue
            y.copy_(out)
            kept.append(left)
    home_RD = ranks.exchange_rows(y_SD, sources.rows_P, to)
    if fault is not None:
        raise fault
    y_TD = it.combine(_and_zeros(home_RD), sent.place_TK, down_NFD, known)
    left = [torch.cat(parts) for parts in zip(*kept)] or sources.nothing(x_SD, up_NDG.shape[2], expert_TK)
    return [y_TD, sent.row_R, sent.place_TK, to_P.cpu(), got_PN.clone(), x_SD, weight_S, *left]


@_forward_op.register_fake
def _(
    number, x_TD, up_NDG, down_NFD, expert_TK, weight_TK, key_4, operand_up, operand_down, activation, precision, backend, world
):  # fmt: skip
    size, dtype = torch.library.get_ctx().new_dynamic_size, Precision.of(precision).arithmetic.dtype
    sent, got, saved, (held, width, outer) = size(), size(), size(), up_NDG.shape
    shapes = OPERATORS[backend].kept(*expert_TK.shape, held)
    return [
        x_TD.new_empty(x_TD.shape, dtype=torch.float32), expert_TK.new_empty(sent), expert_TK.new_empty(expert_TK.shape),
        torch.empty(world, dtype=torch.int64, device="cpu"), torch.empty(world, held, dtype=torch.int64, device="cpu"),
        x_TD.new_empty(got, width, dtype=dtype), weight_TK.new_empty(got, dtype=torch.float32),
        x_TD.new_empty(saved, outer, dtype=dtype), *(expert_TK.new_empty(size(), *shape[1:]) for shape in shapes),
    ]  # fmt: skip


@torch.library.custom_op("moe_speedrun::spread_experts_backward", mutates_args=())
def _backward_op(
    dy_TD: Tensor, number: Tensor, up_NDG: Tensor, down_NFD: Tensor, key_4: Tensor | None, operand_up: Tensor | None,
    operand_down: Tensor | None, row_R: Tensor, place_TK: Tensor, to_P: Tensor, got_PN: Tensor, x_SD: Tensor, weight_S: Tensor,
    h_QG: Tensor, kept: list[Tensor], activation: str, precision: str, backend: str,
) -> list[Tensor]:  # fmt: skip
    """dx_TD and dweight_TK, both fp32. The gradients of weights go to the transport's sums."""
    transport, known, it = _open[int(number)], Precision.of(precision), OPERATORS[backend]
    ranks, sources, to = transport.ranks, Sources(it, got_PN), to_P.tolist()
    transport.meet(None)
    dy_SD = ranks.exchange_rows(known.arithmetic.operand(dy_TD)[row_R // place_TK.shape[1]], to, sources.rows_P)
    weights = operands_of(it, known, (up_NDG, down_NFD), (operand_up, operand_down))
    dx_SD, dweight_S, fault = torch.zeros_like(x_SD), torch.zeros_like(weight_S), None
    left = iter(sources.kept(h_QG, kept))
    for source, (dy, x, weight, dx, dweight) in enumerate(sources.split(dy_SD, x_SD, weight_S, dx_SD, dweight_S)):
        if fault is not None:
            continue
        if not len(x):  # a sum of zeros has its sign from those that were added
            transport.fold(*(torch.zeros_like(w, dtype=torch.float32) for w in (up_NDG, down_NFD)))
            continue
        tensors = (dy, x, *weights, sources.ids(source, x.device), weight.unsqueeze(1))
        try:
            found = it.backward(*tensors, ACTIVATIONS[activation], known, key_4, *next(left))
        except NonFiniteOperand as known_by_now:
            fault = InRows(known_by_now, source)
            continue
        dx.copy_(found[0])
        dweight.copy_(found[3].view(-1))
        transport.fold(found[1], found[2])
    home_RD = ranks.exchange_rows(dx_SD, sources.rows_P, to)
    dweight_R = ranks.exchange_rows(dweight_S, sources.rows_P, to)
    if fault is not None:
        raise fault
    return [it.combine(_and_zeros(home_RD), place_TK, down_NFD, known), _and_zeros(dweight_R)[place_TK]]


@_backward_op.register_fake
def _(
    dy_TD, number, up_NDG, down_NFD, key_4, operand_up, operand_down, row_R, place_TK, to_P, got_PN, x_SD, weight_S, h_QG, kept,
    activation, precision, backend,
):  # fmt: skip
    fp32 = torch.float32
    return [dy_TD.new_empty(dy_TD.shape, dtype=fp32), weight_S.new_empty(place_TK.shape, dtype=fp32)]


def _and_zeros(row_RX: Tensor) -> Tensor:
    """A row of zeros behind the last one, where dropped rows look."""
    return torch.cat([row_RX, row_RX.new_zeros(1, *row_RX.shape[1:])])


def _setup(ctx, inputs, output) -> None:
    number, x_TD, up_NDG, down_NFD, _, weight_TK, key_4, operand_up, operand_down, *how = inputs
    ctx.activation, ctx.precision, ctx.backend, _ = how
    ctx.dtypes = x_TD.dtype, weight_TK.dtype
    ctx.save_for_backward(number, up_NDG, down_NFD, key_4, operand_up, operand_down, *output[1:])
    ctx.set_materialize_grads(False)


def _backward(ctx, grads):
    saved = ctx.saved_tensors  # once: a checkpointed block computes them again
    found = _backward_op(grads[0], *saved[:13], list(saved[13:]), ctx.activation, ctx.precision, ctx.backend)
    dx_TD, dweight_TK = (g.to(dtype) for g, dtype in zip(found, ctx.dtypes))
    return None, dx_TD, None, None, None, dweight_TK, *[None] * 7


_forward_op.register_autograd(_backward, setup_context=_setup)


PART = AllToAll
