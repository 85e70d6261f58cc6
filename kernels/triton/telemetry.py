"""What quantization did to the operands of the Triton kernels, for whoever listens (`kernels.observe`): the figures that the
CPU's quantizers note, of decoded copies. Reads values on the host, as its callers do on measured steps only.

Letters as in `kernels.triton.operands`."""

import torch
from torch import Tensor

from kernels import observe
from kernels.hadamard import transform_rows
from kernels.quantize import ELEMENTS
from kernels.triton.metadata import Routes


def note_blocks(
    format: str, layer: int, tensor: str, x: Tensor, codes: Tensor, scale: Tensor, divisor: Tensor | None, wide: int
) -> None:
    """Notes `x` in codes' shape (R, I) or (E, O, I); `divisor` is nvfp4's tensor scale, 0-dim or of every R or E."""
    every = _every(x)
    x, codes, scale = (t[::every] for t in (x, codes, scale))
    divisor = divisor[::every] if divisor is not None and divisor.ndim else divisor
    spread = scale.float().repeat_interleave(codes.shape[-1] // scale.shape[-1], -1)
    if wide > 1:
        spread = spread.repeat_interleave(wide, -2)
    _note(format, layer, tensor, x, codes, spread, divisor)


def note_slots(
    format: str, layer: int, tensor: str, x: Tensor, codes_PI: Tensor, scale: Tensor, divisor: Tensor | None, blocks: Routes,
    token_R: Tensor | None, hadamard: bool,
) -> None:  # fmt: skip
    """Notes a weight gradient's factor; `x` lies by row, or by token where `token_R` says whose each row is."""
    length = len(codes_PI) // blocks.tile_expert_I.numel()
    used_B = torch.nonzero(blocks.tile_expert_I >= 0).view(-1)
    used_B = used_B[:: min(len(used_B), _every(codes_PI))]
    expert_B, first_B = blocks.tile_expert_I[used_B], blocks.tile_row_I[used_B]
    row_BS = first_B.unsqueeze(1) + torch.arange(length, device=x.device)
    live_BS = row_BS < blocks.start_E1[expert_B + 1].unsqueeze(1)
    row_BS = row_BS.clamp(max=len(blocks.row_R) - 1)
    x_BSI = x[row_BS if token_R is None else token_R[row_BS]].float().masked_fill(~live_BS.unsqueeze(2), 0.0)
    if hadamard:
        x_BSI = transform_rows(x_BSI.flatten(0, 1)).view(x_BSI.shape)
    codes_BSI = codes_PI.view(-1, length, codes_PI.shape[1])[used_B]
    divisor = divisor[expert_B].view(-1, 1, 1) if divisor is not None and divisor.ndim else divisor
    _note(format, layer, tensor, x_BSI, codes_BSI, scale[used_B].float().unsqueeze(1), divisor)


def _every(x: Tensor) -> int:
    return min(max(1, x.numel() // observe.SAMPLE), x.shape[0])


def _note(format: str, layer: int, tensor: str, x: Tensor, codes: Tensor, spread: Tensor, divisor: Tensor | None) -> None:
    decoded, limit = codes.float() * spread, ELEMENTS[format].largest * spread
    if divisor is not None:
        decoded, limit = decoded / divisor, limit / divisor
    observe.note(layer, tensor, x, decoded, limit)
