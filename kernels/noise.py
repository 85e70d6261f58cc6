"""Random bits for stochastic rounding and dither, without state: a hash of where an element stands.

A key is four whole numbers, (seed, step, first token, layer): `first token` of the micro-batch within the step's
global batch. With the tensor's number they become one 32-bit word, and every element hashes that word with its row
and its column. So a rerun, a resumed run and a recomputed layer draw the same bits, and no draw moves another.

`mix` is the 32-bit finalizer of Chris Wellons's "hash prospector" (2018, bias 0.17): a bijection. It is written in
int32 with masked shifts, which means the same in torch, in compiled C++ and as uint32 in Triton."""

import torch
from torch import Tensor

TENSORS = ("gradient", "hidden_gradient", "wgrad_gradient", "wgrad_hidden_gradient")  # whose rounding draws
DITHERED = ("weight_up", "weight_down")
GROUP, QUARTER = 4, 0.25  # codes that are dithered together, and how far at most, in values of the format before its scale
ROW, COLUMN = -1640531535, -2048144777  # odd constants: 0x9E3779B1 and 0x85EBCA77 as int32
_M1, _M2 = 0x7FEB352D, 0x846CA68B - (1 << 32)


def mix(x: Tensor) -> Tensor:
    """int32 -> int32."""
    x = (x ^ ((x >> 16) & 0xFFFF)) * _M1
    x = (x ^ ((x >> 15) & 0x1FFFF)) * _M2
    return x ^ ((x >> 16) & 0xFFFF)


def word(key_4: Tensor, tensor: str) -> Tensor:
    """int32 0-dim: the key and the tensor's number folded into one word. `key_4` int64 (4,), of which 32 bits each
    count."""
    key = (key_4 & 0xFFFFFFFF).to(torch.int64)
    key = torch.where(key >= 1 << 31, key - (1 << 32), key).to(torch.int32)
    found = torch.full((), (TENSORS + DITHERED).index(tensor) + 1, dtype=torch.int32, device=key_4.device)
    for part in key:
        found = mix(found * ROW + part)
    return found


def uniform(word: Tensor, row: Tensor, column: Tensor) -> Tensor:
    """fp32 in [0, 1), multiples of 2^-24, of the shape that `row` and `column` (int32) broadcast to."""
    bits = mix(mix(row * ROW + word) + column * COLUMN)
    return ((bits >> 8) & 0xFFFFFF).to(torch.float32) * 2.0**-24


def dither(key_4: Tensor, tensor: str, shape: tuple[int, ...], share: float) -> Tensor:
    """fp32 (E, I, O), what is added to the values of a weight before they are rounded: from -1/4 to 1/4 in a `share` of all
    groups of four along O, 0 elsewhere. Of one step the same in every micro-batch, forward and backward; `key_4` int64 (4,),
    `tensor` of DITHERED."""
    experts, inputs, outputs = shape
    of_step = key_4.clone()
    of_step[2] = 0  # whichever micro-batch
    key = word(of_step, tensor)
    row = torch.arange(experts * inputs, dtype=torch.int32, device=key_4.device).view(experts, inputs, 1)
    column = torch.arange(outputs, dtype=torch.int32, device=key_4.device)
    jitter = (uniform(key, row, column) - 0.5) * (2 * QUARTER)
    return torch.where(uniform(mix(key + COLUMN), row, column // GROUP) < share, jitter, 0.0)
