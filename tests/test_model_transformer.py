"""The decoder as a whole: causality, initialization, counts, accumulation, checkpointing, compilation."""

import math

import pytest
import torch
from torch.nn.functional import cross_entropy

from harness.model import transformer
from harness.model.counts import beside
from harness.model.init import initialize
from harness.model.transformer import Transformer
from harness.model.where import Cache, Where
from harness.plan.schema import Init, Model
from kernels import Arithmetic

DENSE = dict(width=16, layers=2, heads=2, sequence_length=12, vocab_size=31, ffn_width=24)
MOE = DENSE | dict(
    num_experts=5, expert_width=8, top_k=2, shared_experts=1, leading_dense_layers=1, layers=3, activation="swiglu"
)
HASH = DENSE | dict(num_experts=5, expert_width=8, top_k=2, router="hash", norm_weight=True, qk_norm=False)
EVERY = DENSE | dict(num_experts=5, expert_width=8, top_k=2, router="softmax_topk", layers=4, moe_every=2)
SHAPES = {"dense": DENSE, "moe": MOE, "hash": HASH, "every": EVERY}


def build(shape, precision="full", seed=1, zero_output=False, head_std=0.25, **options):
    """A model whose head and outputs are not zero, so that every part has a say."""
    model = Transformer(Model(**SHAPES[shape]), Arithmetic.of(precision), "torch", **options)
    initialize(model, Init(zero_output=zero_output), seed)
    with torch.no_grad():
        model.head.weight.normal_(0, head_std, generator=torch.Generator().manual_seed(seed))
    return model


def batch(rows=4, length=12, seed=0):
    draws = torch.Generator().manual_seed(seed)
    return tuple(torch.randint(31, (rows, length), generator=draws) for _ in range(2))


def forward(model, token_BS, target_BS, **where):
    return model(Where(token_BS, **where), target_BS)


def equal(a, b):
    """Whether two outputs have the same bits."""
    tensors = [(*output[:-1], *output.terms.values()) for output in (a, b)]
    return a.terms.keys() == b.terms.keys() and all(torch.equal(x, y) for x, y in zip(*tensors, strict=True))


def gradients(model):
    return {name: p.grad.clone() for name, p in model.named_parameters()}


@pytest.mark.parametrize("precision", ["full", "emulated", "native"])
@pytest.mark.parametrize("shape", SHAPES)
def test_a_later_token_never_changes_earlier_logits(shape, precision):
    model, (token_BS, _) = build(shape, precision), batch()
    changed_BS = token_BS.clone()
    changed_BS[:, 7:] = (token_BS[:, 7:] + 5) % 31
    with torch.no_grad():
        before, after = model.logits(token_BS), model.logits(changed_BS)
    assert torch.equal(before[:, :7], after[:, :7])
    assert (before[:, 7:] != after[:, 7:]).any(-1).all()


@pytest.mark.parametrize("shape", SHAPES)
def test_an_earlier_token_reaches_later_logits(shape):
    model, (token_BS, _) = build(shape), batch()
    changed_BS = token_BS.clone()
    changed_BS[:, 0] = (token_BS[:, 0] + 5) % 31
    with torch.no_grad():
        assert (model.logits(token_BS) != model.logits(changed_BS))[:, 1:].any(-1).all()


@pytest.mark.parametrize("precision", ["full", "emulated", "native"])
@pytest.mark.parametrize("shape", SHAPES)
def test_within_documents_no_token_reaches_another_document_of_its_row(shape, precision):
    model, (token_BS, target_BS) = build(shape, precision), batch()
    document_BS = torch.tensor([0] * 5 + [1] * 7).expand(4, 12)
    changed_BS = token_BS.clone()
    changed_BS[:, :5] = (token_BS[:, :5] + 5) % 31
    with torch.no_grad():
        masks = (document_BS, None)
        (apart, across), (apart_changed, across_changed) = (
            [model(Where(tokens, document_BS=mask), target_BS).nats_BS[:, 5:] for mask in masks]
            for tokens in (token_BS, changed_BS)
        )
    assert torch.equal(apart, apart_changed)
    assert (across != across_changed).any(-1).all()


@pytest.mark.parametrize("shape", SHAPES)
def test_a_document_within_a_row_reads_as_one_alone_with_its_positions_restarted_or_not(shape):
    model, (token_BS, target_BS) = build(shape), batch(rows=1)
    mask, positions = torch.tensor([[3] * 4 + [8] * 8]), torch.tensor([[*range(4), *range(8)]])
    alone = model(Where(token_BS[:, 4:]), target_BS[:, 4:]).nats_BS
    for position_BS in (None, positions):
        found = model(Where(token_BS, position_BS, mask), target_BS).nats_BS
        torch.testing.assert_close(found[:, 4:], alone, rtol=1e-5, atol=1e-5)


def test_positions_matter():
    model = build("dense")
    with torch.no_grad():
        nats = model.logits(torch.tensor([[3, 9, 4], [9, 3, 4]]))[:, -1]
    assert not torch.allclose(nats[0], nats[1], atol=1e-3)


@pytest.mark.parametrize("precision", ["full", "emulated", "native"])
@pytest.mark.parametrize("shape", SHAPES)
def test_the_first_loss_is_ln_v(shape, precision):
    model = Transformer(Model(**SHAPES[shape]), Arithmetic.of(precision), "torch")
    initialize(model, Init(), 1)
    nats_BS = forward(model, *batch()).nats_BS
    torch.testing.assert_close(nats_BS, torch.full((4, 12), math.log(31)), rtol=0, atol=1e-6)


def test_nats_are_the_cross_entropy_of_the_logits():
    model, (token_BS, target_BS) = build("moe"), batch()
    expected = cross_entropy(model.logits(token_BS).flatten(0, 1), target_BS.flatten(), reduction="none").view(4, 12)
    assert torch.equal(forward(model, token_BS, target_BS).nats_BS, expected)


@pytest.mark.parametrize("shape", SHAPES)
def test_initial_weights_depend_on_the_seed_and_nothing_else(shape):
    models = []
    for seed in (7, 7, 8):
        torch.manual_seed(len(models))
        model = Transformer(Model(**SHAPES[shape]), Arithmetic.of("full"), "torch")
        initialize(model, Init(zero_output=False), seed)
        models.append(model.state_dict())
    assert all(torch.equal(models[0][name], models[1][name]) for name in models[0])
    fixed = {name for name in models[0] if torch.equal(models[0][name], models[2][name])}
    assert fixed == {name for name in fixed if name == "head.weight" or name.endswith(("norm.weight", "router.bias"))}


@pytest.mark.parametrize("zero_output", [True, False])
def test_init_draws_what_it_says(zero_output):
    shape = Model(**MOE | dict(width=64, expert_width=48, vocab_size=300, norm_weight=True))
    model = Transformer(shape, Arithmetic.of("full"), "torch")
    initialize(model, Init(embedding_std=0.5, matrix_gain=2.0, zero_output=zero_output), 1)
    for name, p in model.named_parameters():
        if name.endswith("norm.weight"):
            assert (p == 1).all()
        elif name == "head.weight" or (zero_output and name.endswith((".down", "attention.output"))):
            assert not p.any(), name
        else:
            std = 0.5 if name == "embedding" else 2.0 / math.sqrt(p.shape[-2])
            assert p.std().item() == pytest.approx(std, rel=0.15), name


@pytest.mark.parametrize("shape, layers", [("moe", [1, 2]), ("hash", [0, 1]), ("every", [0, 2]), ("dense", [])])
def test_counts_come_from_moe_layers_only_and_sum_to_tokens_times_k(shape, layers):
    model = build(shape)
    output = forward(model, *batch())
    assert model.moe_layers == layers
    assert tuple(output.count_LE.shape) == ((len(layers), 5) if layers else (0, 0))
    assert output.count_LE.dtype == torch.int64
    assert output.count_LE.sum(-1).tolist() == [48 * 2] * len(layers)
    assert output.margin_L.shape == (len(layers),) and not output.margin_L.requires_grad


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("precision", ["full", "emulated", "native"])
@pytest.mark.parametrize("shape", SHAPES)
def test_activation_checkpointing_changes_neither_counts_nor_gradients(shape, precision, masked):
    outputs, grads = [], []
    document_BS = torch.arange(12).floor_divide(5).expand(4, 12) if masked else None
    for checkpointing in (False, True):
        model = build(shape, precision, activation_checkpointing=checkpointing)
        output = forward(model, *batch(), document_BS=document_BS)
        output.nats_BS.mean().backward()
        outputs.append(output)
        grads.append(gradients(model))
    assert equal(*outputs)
    assert [name for name in grads[0] if not torch.equal(grads[0][name], grads[1][name])] == []


@pytest.mark.parametrize("shape", SHAPES)
def test_two_halves_accumulate_to_the_whole(shape):
    token_BS, target_BS = batch()
    whole, halves = build(shape), build(shape)
    output = forward(whole, token_BS, target_BS)
    output.nats_BS.sum().div(48).backward()
    counts = 0
    for part in (slice(0, 2), slice(2, 4)):
        half = forward(halves, token_BS[part], target_BS[part])
        half.nats_BS.sum().div(48).backward()
        counts = counts + half.count_LE
    assert torch.equal(counts, output.count_LE)
    expected, found = gradients(whole), gradients(halves)
    for name in expected:
        torch.testing.assert_close(found[name], expected[name], rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("shape", ["moe", "hash"])
def test_routing_shuffled_by_the_identity_changes_nothing(shape):
    model, (token_BS, target_BS) = build(shape), batch()
    plain, shuffled = (forward(model, token_BS, target_BS, shuffle_T=order) for order in (None, torch.arange(48)))
    assert equal(plain, shuffled)


def test_shuffled_routing_gives_each_token_anothers_experts():
    model, (token_BS, target_BS) = build("moe"), batch()
    plain, shuffled = (forward(model, token_BS, target_BS, shuffle_T=order) for order in (None, torch.arange(48).flip(0)))
    assert not torch.allclose(plain.nats_BS, shuffled.nats_BS, atol=1e-4)
    assert torch.equal(plain.count_LE[0], shuffled.count_LE[0])  # the first router saw the same input


def test_every_parameter_gets_a_gradient():
    for shape in SHAPES:
        model = build(shape)
        forward(model, *batch())[0].mean().backward()
        assert [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()] == []


def test_shorter_sequences_give_the_first_logits_of_longer_ones():
    model, (token_BS, _) = build("moe"), batch()
    with torch.no_grad():
        torch.testing.assert_close(model.logits(token_BS[:, :5]), model.logits(token_BS)[:, :5], rtol=1e-5, atol=1e-6)


def test_emulated_is_bf16_with_fp32_accumulation():
    """Between them native and emulated may differ by what is stored in bf16; both differ from full by their operands. Routes
    are fixed: a rounding that sends one token to another expert is no small difference."""
    logits = {}
    for precision in ("full", "emulated", "native"):
        with torch.no_grad():
            logits[precision] = build("hash", precision).logits(batch()[0]).double()
    error = {p: float((logits[p] - logits["full"]).norm() / logits["full"].norm()) for p in ("emulated", "native")}
    assert all(1e-3 < e < 3e-2 for e in error.values()), error


@pytest.mark.slow
@pytest.mark.parametrize("masked", [False, True])
def test_a_compiled_block_equals_the_eager_one(masked):
    """Emulated on purpose: a compiler that drops the rounding of operands is off by 1e-3, not by 1e-5."""
    model, (token_BS, _) = build("moe", "emulated"), batch(rows=2)
    block = model.blocks[1]
    x_BSD = torch.randn(2, 12, 16, generator=torch.Generator().manual_seed(5))
    results = []
    where = Where(token_BS, document_BS=torch.arange(12).floor_divide(5).expand(2, 12) if masked else None)
    where = where._replace(shared=model.shared["full"](where))
    for run in (block, torch.compile(block, fullgraph=True, dynamic=False)):
        x = x_BSD.clone().requires_grad_()
        y_BSD, routed, _ = run(x, where)
        results.append((y_BSD, routed.count_E, *torch.autograd.grad(y_BSD.square().sum(), [x, *block.parameters()])))
    eager, compiled = results
    assert torch.equal(eager[1], compiled[1])
    errors = [float((b - a).detach().norm() / a.detach().norm()) for a, b in zip(eager, compiled) if a.is_floating_point()]
    assert max(errors) < 5e-4, errors


def test_a_chunked_head_gives_the_same_losses_and_gradients_and_never_holds_all_logits(monkeypatch):
    model, results, largest = build("dense"), [], []
    x_BSD = torch.randn(4, 12, 16, generator=torch.Generator().manual_seed(0)).requires_grad_()
    target_BS = torch.arange(48).view(4, 12) % 31
    for limit in (1 << 27, 7 * 31):
        monkeypatch.setitem(transformer.LOGITS_AT_ONCE, "cpu", limit)
        kept = []
        with torch.autograd.graph.saved_tensors_hooks(lambda t, k=kept: k.append(tuple(t.shape)) or t, lambda t: t):
            nats_BS = model.head(x_BSD, target_BS)
        largest.append(max(size[0] for size in kept if size[-1:] == (31,) and size != (16, 31)) if limit > 217 else kept)
        results.append([nats_BS.detach(), *torch.autograd.grad(nats_BS.sum(), [x_BSD, model.head.weight])])
    for whole, chunked in zip(*results):
        torch.testing.assert_close(chunked, whole, rtol=2e-5, atol=1e-6)
    assert largest[0] == 48  # all tokens' logits
    assert not any(size[-1:] == (31,) and size != (16, 31) for size in largest[1])


@pytest.mark.parametrize("parts", [(12,), (5, 1, 1, 5), (1,) * 12, (11, 1)])
@pytest.mark.parametrize("shape", SHAPES)
def test_with_a_cache_tokens_read_in_parts_have_the_logits_of_the_whole(shape, parts):
    model, (token_BS, _) = build(shape), batch()
    cache, found = Cache(), []
    with torch.no_grad():
        for part in token_BS.split(parts, dim=1):
            found.append(model.logits(part, cache))
        torch.testing.assert_close(torch.cat(found, 1), model.logits(token_BS), rtol=1e-5, atol=1e-5)
    assert cache.length == 12
    kept = sum(values.numel() for layer in cache.kept.values() for values in layer)
    assert kept == 4 * 12 * beside(model).cache_values


def test_a_cache_is_of_what_came_before_and_of_nothing_else():
    model, (token_BS, _) = build("moe"), batch()
    with torch.no_grad():
        model.logits(token_BS[:, :6], cache := Cache())
        other = model.logits(token_BS[:, 6:], cache)
        assert not torch.allclose(other, model.logits(token_BS[:, 6:]), atol=1e-3)
