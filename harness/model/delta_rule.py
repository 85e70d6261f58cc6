"""The gated delta rule: a state that is corrected by what it would have said, and decays.

    S_t = D_t S_{t-1} + beta_t k_t (v_t - k_t^T D_t S_{t-1})        o_t = q_t^T S_t

D_t is e^{g_t}: one number a head (Gated DeltaNet, arXiv 2412.06464) or one a key channel (KDA, arXiv 2510.26692). `recurrent`
is that, token by token: what decoding does, and what the chunks are tested against. In chunks of C tokens all is matrix
products but for one small triangular system a chunk, and the state passes from chunk to chunk.

Letters: B batch, H heads, T tokens, N chunks, C chunk, K key width, V value width. fp32 (tests: fp64).
"""

import torch
from torch import Tensor


def recurrent(
    q_BHTK: Tensor, k_BHTK: Tensor, v_BHTV: Tensor, g_BHTK: Tensor, beta_BHT: Tensor, state_BHKV: Tensor
) -> tuple[Tensor, Tensor]:
    """o_BHTV and the state after the last token. `g_BHTK`: logarithms of the decay, of K channels or of 1."""
    outputs = []
    for t in range(q_BHTK.shape[2]):
        q, k, v = q_BHTK[:, :, t], k_BHTK[:, :, t], v_BHTV[:, :, t]
        state_BHKV = state_BHKV * g_BHTK[:, :, t].exp().unsqueeze(-1)
        said_BHV = (k.unsqueeze(-2) @ state_BHKV).squeeze(-2)
        correction_BHV = beta_BHT[:, :, t].unsqueeze(-1) * (v - said_BHV)
        state_BHKV = state_BHKV + k.unsqueeze(-1) * correction_BHV.unsqueeze(-2)
        outputs.append((q.unsqueeze(-2) @ state_BHKV).squeeze(-2))
    return torch.stack(outputs, 2), state_BHKV


def chunked(
    q_BHTK: Tensor, k_BHTK: Tensor, v_BHTV: Tensor, g_BHTK: Tensor, beta_BHT: Tensor, state_BHKV: Tensor, chunk: int,
    least: float = 0.0,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """The same. `least`: below which no g of channels is; (chunk - 1) * |least| may not pass 80, where fp32 ends."""
    tokens = q_BHTK.shape[2]
    q, k, v, g = (_in_chunks(t, chunk) for t in (q_BHTK, k_BHTK, v_BHTV, g_BHTK))  # padding: no key, no value, no decay
    beta = _in_chunks(beta_BHT.unsqueeze(-1), chunk)
    ones_CC = torch.ones(chunk, chunk, dtype=q.dtype, device=q.device)
    whole = ones_CC.tril() @ g  # decay since the chunk began, its own included; a cumsum would have no fixed order on a GPU
    within = _by_head if g.shape[-1] == 1 else _by_channel
    k_CC, q_CC = within(q, k, whole, least)
    system = torch.eye(chunk, dtype=q.dtype, device=q.device) + (beta * k_CC).tril(-1)
    given = torch.cat((beta * v, beta * whole.exp() * k), -1)
    solved = torch.linalg.solve_triangular(system, given, upper=False, unitriangular=True)
    values, keys = solved.split((v.shape[-1], k.shape[-1]), -1)
    last = whole[..., -1:, :]
    outputs, to_state, from_state = [], ((last - whole).exp() * k).mT, whole.exp() * q
    q_CC = q_CC.tril()
    for n in range(q.shape[2]):
        right = values[:, :, n] - keys[:, :, n] @ state_BHKV
        outputs.append(from_state[:, :, n] @ state_BHKV + q_CC[:, :, n] @ right)
        state_BHKV = last[:, :, n].exp().mT * state_BHKV + to_state[:, :, n] @ right
    return torch.stack(outputs, 2).flatten(2, 3)[:, :, :tokens], state_BHKV


def _in_chunks(x_BHTW: Tensor, chunk: int) -> Tensor:
    """(B, H, N, C, W), the last chunk padded with zeros."""
    missing = -x_BHTW.shape[2] % chunk
    return torch.nn.functional.pad(x_BHTW, (0, 0, 0, missing)).unflatten(2, (-1, chunk))


def _by_head(q: Tensor, k: Tensor, whole: Tensor, least: float) -> tuple[Tensor, Tensor]:
    """k_i . k_j and q_i . k_j, decayed from j to i, for j <= i; zeros above."""
    apart = whole - whole.mT
    seen = torch.ones(apart.shape[-2:], dtype=torch.bool, device=q.device).tril()
    decay = apart.masked_fill(~seen, -torch.inf).exp()  # before exp: above the diagonal it would pass fp32
    return (k @ k.mT) * decay, (q @ k.mT) * decay


def _by_channel(q: Tensor, k: Tensor, whole: Tensor, least: float) -> tuple[Tensor, Tensor]:
    """The same of decays by channel, as products of what grows and what shrinks since the chunk's first token, both about a
    constant: of an anchor that looked at later tokens, earlier ones would depend on them."""
    half = -least * (q.shape[-2] - 1) / 2
    since = whole - whole[..., :1, :]
    shrunk, grown = (since + half).exp(), (-since - half).exp()
    return (k * shrunk) @ (k * grown).mT, (q * shrunk) @ (k * grown).mT
