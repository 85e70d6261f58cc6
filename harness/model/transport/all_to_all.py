"""Rows go to the rank that holds their expert, and what it makes of them comes home: expert parallelism.

Letters: T tokens, K top-k, R rows that this rank sends, S rows that it gets, D width, G pre-activation width, F expert width, P
ranks, E experts, N = E/P experts of each.

A layer's pass, forward: counts (and whether somebody has stopped) to every owner; rows and routing weights; the owner takes
them through the backend, unit by unit or as if so (`kernels.units`); they come home and are summed in the order of k. Backward
alike: gradients of outputs go, those of inputs and routing weights come.

Why no bit depends on P. From rank to rank numbers are copied, in the dtype that they have already. A row's outputs depend on
itself and its expert, whoever computes them. The gradient of an expert's weights is that of one unit's rows, added to the sum
so far in the order of units, which is that of sources; the first one is kept as it is. Autograd gets none of it: it would add a
round's sum at once.

Every pass has both exchanges, with no rows too, so that all ranks meet as often. Where one finds what its format cannot hold it
finishes the exchange it is in, says so in the next, and all of them leave the step (`Elsewhere` on those that found nothing).
"""

from itertools import count
from typing import Any
from weakref import WeakValueDictionary

import torch
from torch import Tensor

from harness.model.arrangement import outgoing
from harness.model.spread_formats import Met, Places
from harness.model.transport import Elsewhere, Transport
from harness.plan.schema import Model
from harness.ranks import Ranks
from kernels.activation import ACTIVATIONS
from kernels.backends import OPERATORS, operands_of
from kernels.beside import looks_beside, noise_slots, scales_tensors
from kernels.precision import Precision
from kernels.stages import stage
from kernels.units import InUnit, Layer, Totals, of_units

_numbers = count()
_open: "WeakValueDictionary[int, AllToAll]" = WeakValueDictionary()  # by number: an operator is given tensors alone


class AllToAll(Transport):
    spread = True

    def __init__(self, model: Model, keys: Any, ranks: Ranks):
        super().__init__(model, keys, ranks)
        self.share = model.num_experts // ranks.world
        self.sums: Totals | None = None  # of both weights' gradients, over the units so far
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

    def take_gradients(self) -> Totals:
        found, self.sums = self.sums, None
        return found

    def meet(
        self, count_PN: Tensor | None, stopped: bool = False, *, first_P: Tensor | None = None, largest: float = 0.0
    ) -> Met:
        """What every source says of its unit. `count_PN`: the rows for each owner's experts, None of an exchange without new
        rows; `first_P`: where each owner's first slot is; `largest`: magnitude of the unit's inputs or gradients.

        Raises: Elsewhere where another rank has stopped, so that all leave at the same exchange."""
        device = self.ranks.device
        message = torch.zeros(self.ranks.world, self.share + 3, dtype=torch.float64, device=device)  # which holds all of them
        for column, said in ((-1, float(stopped)), (-2, largest), (-3, first_P), (slice(-3), count_PN)):
            if said is not None:
                message[:, column] = torch.as_tensor(said, dtype=torch.float64, device=device)
        found = self.ranks.exchange(message).cpu()
        if not stopped and bool(found[:, -1].any()):
            raise Elsewhere
        return Met(found[:, :-3].long(), found[:, -3].long(), found[:, -2].float())

    def layer(
        self, activation: str, known: Precision, key_4: Tensor | None, shape: torch.Size, row_S: Tensor, met: Met
    ) -> Layer:
        """A pass's; `shape`: (T, K) of a unit, `row_S`: the numbers of the rows that came, where something looks at them."""
        layer = Layer(ACTIVATIONS[activation], known, key_4, self.num_experts, shape[1])
        if not looks_beside(known.quantization):
            return layer
        places = Places(self.ranks, key_4, shape, row_S, met)
        return layer._replace(places=places, all_meet=scales_tensors(known.quantization))


@torch.library.custom_op("moe_speedrun::spread_experts", mutates_args=())
def _forward_op(
    number: Tensor, x_TD: Tensor, up_NDG: Tensor, down_NFD: Tensor, expert_TK: Tensor, weight_TK: Tensor, key_4: Tensor | None,
    operand_up: Tensor | None, operand_down: Tensor | None, activation: str, precision: str, backend: str, world: int,
) -> list[Tensor]:  # fmt: skip
    """y_TD in fp32; for the backward: which rows went (R) and where each is in them (T, K), how many to each rank (P); how many
    came for each expert (P, N) and the number of their first slot (P), these rows (S, D), their routing weights (S) and numbers
    (S, none where nothing looks at them), and what the backend keeps of them."""
    transport, known = _open[int(number)], Precision.of(precision)
    ranks, x_TD, looks = transport.ranks, known.arithmetic.operand(x_TD), looks_beside(known.quantization)
    with stage("counts"):
        sent = outgoing(expert_TK, transport.num_experts)
        count_PN = sent.count_E.view(world, transport.share)
        slots_E = noise_slots(sent.count_E, known.quantization.block) if looks else sent.count_E
        first_P = (slots_E.cumsum(0) - slots_E)[:: transport.share]
        met = transport.meet(count_PN, first_P=first_P, largest=_largest(known, x_TD))
        to_P, got_P = count_PN.sum(1).tolist(), met.count_PN.sum(1).tolist()
    with stage("dispatch"):
        x_SD = ranks.exchange_rows(x_TD[sent.row_R // expert_TK.shape[1]], to_P, got_P)
        weight_S = ranks.exchange_rows(weight_TK.reshape(-1)[sent.row_R].float(), to_P, got_P)
        row_S = ranks.exchange_rows(sent.row_R, to_P, got_P) if looks else sent.row_R.new_empty(0)
    weights = operands_of(OPERATORS[backend], known, (up_NDG, down_NFD), (operand_up, operand_down))
    layer = transport.layer(activation, known, key_4, expert_TK.shape, row_S, met)
    y_SD, kept, fault = torch.zeros_like(x_SD), [], None
    try:
        found, *kept = of_units(backend, known).forward(x_SD, *weights, met.count_PN, weight_S, layer)
        y_SD.copy_(found)
    except InUnit as met_now:
        fault = met_now
    with stage("return"):
        home_RD = ranks.exchange_rows(y_SD, got_P, to_P)
    if fault is not None:
        raise fault
    with stage("combine"):
        y_TD = OPERATORS[backend].combine(_and_zeros(home_RD), sent.place_TK, down_NFD, known)
    return [y_TD, sent.row_R, sent.place_TK, torch.tensor(to_P), met.count_PN, met.first_P, x_SD, weight_S, row_S, *kept]


@_forward_op.register_fake
def _(
    number, x_TD, up_NDG, down_NFD, expert_TK, weight_TK, key_4, operand_up, operand_down, activation, precision, backend, world
):  # fmt: skip
    size, known, (held, width, outer) = torch.library.get_ctx().new_dynamic_size, Precision.of(precision), up_NDG.shape
    dtype, sent, got, saved = known.arithmetic.dtype, size(), size(), size()
    numbered = got if looks_beside(known.quantization) else 0
    shapes = OPERATORS[backend].kept(1, 1, held)
    to_P, count_PN, first_P = (torch.empty(of, dtype=torch.int64, device="cpu") for of in ((world,), (world, held), (world,)))
    return [
        x_TD.new_empty(x_TD.shape, dtype=torch.float32), expert_TK.new_empty(sent), expert_TK.new_empty(expert_TK.shape),
        to_P, count_PN, first_P, x_TD.new_empty(got, width, dtype=dtype), weight_TK.new_empty(got, dtype=torch.float32),
        expert_TK.new_empty(numbered), x_TD.new_empty(saved, outer, dtype=dtype),
        *(expert_TK.new_empty(size(), *shape[1:]) for shape in shapes),
    ]  # fmt: skip


@torch.library.custom_op("moe_speedrun::spread_experts_backward", mutates_args=())
def _backward_op(
    dy_TD: Tensor, number: Tensor, up_NDG: Tensor, down_NFD: Tensor, key_4: Tensor | None, operand_up: Tensor | None,
    operand_down: Tensor | None, row_R: Tensor, place_TK: Tensor, to_P: Tensor, count_PN: Tensor, first_P: Tensor, x_SD: Tensor,
    weight_S: Tensor, row_S: Tensor, kept: list[Tensor], activation: str, precision: str, backend: str,
) -> list[Tensor]:  # fmt: skip
    """dx_TD and dweight_TK, both fp32. The gradients of weights go to the transport's sums."""
    transport, known = _open[int(number)], Precision.of(precision)
    ranks, dy_TD = transport.ranks, known.arithmetic.operand(dy_TD)
    to, got = to_P.tolist(), count_PN.sum(1).tolist()
    with stage("counts"):
        met = transport.meet(None, largest=_largest(known, dy_TD))._replace(count_PN=count_PN, first_P=first_P)
    with stage("dispatch"):
        dy_SD = ranks.exchange_rows(dy_TD[row_R // place_TK.shape[1]], to, got)
    weights = operands_of(OPERATORS[backend], known, (up_NDG, down_NFD), (operand_up, operand_down))
    layer = transport.layer(activation, known, key_4, place_TK.shape, row_S, met)
    dx_SD, dweight_S, fault = torch.zeros_like(x_SD), torch.zeros_like(weight_S), None
    try:
        dx, dweight, transport.sums = of_units(backend, known).backward(
            dy_SD, x_SD, *weights, count_PN, weight_S, layer, transport.sums, *kept
        )
        dx_SD.copy_(dx)
        dweight_S.copy_(dweight)
    except InUnit as met_now:
        fault = met_now
    with stage("return"):
        home_RD, dweight_R = (ranks.exchange_rows(of_rows, got, to) for of_rows in (dx_SD, dweight_S))
    if fault is not None:
        raise fault
    with stage("combine"):
        dx_TD = OPERATORS[backend].combine(_and_zeros(home_RD), place_TK, down_NFD, known)
        return [dx_TD, _and_zeros(dweight_R)[place_TK]]


@_backward_op.register_fake
def _(
    dy_TD, number, up_NDG, down_NFD, key_4, operand_up, operand_down, row_R, place_TK, to_P, count_PN, first_P, x_SD, weight_S,
    row_S, kept, activation, precision, backend,
):  # fmt: skip
    fp32 = torch.float32
    return [dy_TD.new_empty(dy_TD.shape, dtype=fp32), weight_S.new_empty(place_TK.shape, dtype=fp32)]


def _largest(known: Precision, x_TD: Tensor) -> float:
    """The largest magnitude of a unit, where a format has a scale of all its tokens; else 0."""
    return float(x_TD.float().abs().amax()) if known.quantization and scales_tensors(known.quantization) and len(x_TD) else 0.0


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
    found = _backward_op(grads[0], *saved[:14], list(saved[14:]), ctx.activation, ctx.precision, ctx.backend)
    dx_TD, dweight_TK = (g.to(dtype) for g, dtype in zip(found, ctx.dtypes))
    return None, dx_TD, None, None, None, dweight_TK, *[None] * 7


_forward_op.register_autograd(_backward, setup_context=_setup)


PART = AllToAll
