"""The exported modelling files against the run's own model, and what they refuse. With transformers itself: tests/referee."""

import json
import sys
from pathlib import Path

import micro
import pytest
import torch
from transformers_stub import modelling

from harness.errors import UserError
from harness.export import configuration, published
from harness.model.build import build_model
from harness.model.init import initialize
from harness.plan.compose import compose
from harness.plan.schema import Init, walk

FOLDER = micro.ROOT / "harness" / "export"
PUBLISHED = (
    "model.activation=swiglu model.qk_norm=false model.norm_weight=true model.shared_experts=2 model.leading_dense_layers=1 "
    "model.ffn_width=48 model.layers=3"
)
VALUES = "model.memories=[value_embeddings] memory.value_embeddings.channels=5"
ENGRAM = "model.memories=[engram] memory.engram.rows=61 memory.engram.columns=4"
SMALL = (
    "memory.bigram.columns=8 memory.engram.rows=61 memory.engram.columns=4 memory.engram.heads=2 memory.smear.channels=5 "
    "memory.value_embeddings.channels=5 memory.canon.taps=3"
)
SHAPES = {
    "dense": (micro.DENSE, ""),
    "dense swiglu": (micro.DENSE, "model.activation=swiglu model.norm_weight=true model.qk_norm=false model.rope_base=500"),
    "dense swiglu with QK-norm": (
        micro.DENSE,
        "model.activation=swiglu +attention.full={kv_heads:1,gain:1.5} gains.logits=0.5",
    ),
    "dense relu2 without QK-norm": (micro.DENSE, "model.qk_norm=false attention.full.gain=0.7 gains.embedding=3"),
    "moe": (micro.MOE, ""),
    "shared, leading dense": (micro.MOE, PUBLISHED),
    "every second layer": (micro.MOE, "model.moe_every=2 model.layers=4 model.ffn_width=40"),
    "softmax": (micro.MOE, "model.router=softmax_topk balance=none"),
    "scores as they are": (micro.MOE, "model.router_renormalize=false model.top_k=1"),
    "hash": (micro.MOE, "model.router=hash balance=none"),
    "dials": (micro.DENSE, "+attention.full={kv_heads:1,gain:1.5,rotated:8,head_gate:true}"),
    "window": (micro.DENSE, "model.attention_pattern=[window,full] attention.window.tokens=5 attention.full.kv_heads=1"),
    "gains": (micro.MOE, "gains.embedding=3 gains.logits=0.3 gains.expert_output=1.7 model.shared_experts=1"),
    "softcap": (micro.DENSE, "gains.softcap=2 gains.logits=1.5"),
    "key offset": (micro.DENSE, "+attention.full={rotated:8,key_offset:true,kv_heads:1}"),
    "latent": (micro.MOE, "model.attention_pattern=[mla,full] attention.mla.rank=6 attention.mla.rotary=4"),
    "smear": (micro.MOE, "model.memories=[smear] memory.smear.channels=5"),
    "bigram": (micro.DENSE, "model.memories=[bigram] memory.bigram.columns=8"),
    "hashed bigram": (micro.MOE, "model.memories=[bigram] memory.bigram.columns=0 memory.bigram.rows=1000"),
    "value embeddings": (micro.DENSE, f"{VALUES} attention.full.kv_heads=1 model.layers=3"),
    "canon": (micro.MOE, "model.memories=[canon] memory.canon.places=ABCD memory.canon.taps=3 model.shared_experts=1"),
    "canon of a window": (
        micro.DENSE, "model.memories=[canon] memory.canon.places=BD model.attention=window attention.window.tokens=5",
    ),
    "engram": (micro.DENSE, f"{ENGRAM} memory.engram.layers=[1,0] memory.engram.order=4 memory.engram.heads=3"),
    "lambdas": (micro.MOE, "model.residual=lambdas"),
    "hyper": (micro.DENSE, "model.residual=hyper residual.hyper.streams=3 residual.hyper.rounds=7"),
    "all memories in another order": (
        micro.MOE,
        f"model.memories=[engram,canon,value_embeddings,bigram,smear] model.residual=hyper gains.softcap=5 {SMALL}",
    ),
    "all memories with lambdas": (
        micro.DENSE, f"model.memories=[smear,value_embeddings,canon,engram,bigram] model.residual=lambdas {SMALL}",
    ),
}  # fmt: skip
REFUSED = {
    "model.attention=kda": "model.attention=kda",
    "model.attention_pattern=[full,nsa] attention.nsa.chosen=2": "model.attention=nsa",
    "precision.format=nvfp4": "precision.format=nvfp4",
    "precision.format=fp8 model.width=128 model.expert_width=128": "precision.format=fp8",
}


def plan_of(shape):
    lane, words = SHAPES[shape]
    return compose([*lane, *words.split()]).plan


def own_model(plan):
    """With every parameter and buffer drawn, so that each has a say."""
    model, draws = build_model(plan, "full"), torch.Generator().manual_seed(1)
    initialize(model, Init(zero_output=False), 1)
    with torch.no_grad():
        for name, t in model.state_dict().items():
            if name.endswith("norm.weight"):
                t.normal_(1, 0.3, generator=draws)
            elif t.is_floating_point():  # what starts at 0 or as a number of all
                t.copy_(torch.where((t == 0) | (t == t.flatten()[0]), torch.randn(t.shape, generator=draws) * 0.3, t))
        model.head.weight.normal_(0, 0.5, generator=draws)
    return model.eval()


def exported(plan, model):
    """The same weights in the modelling file's model, made of what config.json says."""
    code = modelling(FOLDER / f"{configuration.CODE}.py")
    said = json.loads(json.dumps(configuration.configuration(plan)))
    made = code.MoeSpeedrunForCausalLM(code.MoeSpeedrunConfig(**said)).eval()
    made.load_state_dict(model.state_dict(), strict=True)
    return made


def tokens(rows=4, length=32):
    return torch.randint(256, (rows, length), generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize("shape", SHAPES)
def test_the_exported_models_logits_are_the_runs_own(shape):
    plan = plan_of(shape)
    model = own_model(plan)
    with torch.no_grad():
        ours, theirs = model.logits(tokens()), exported(plan, model)(tokens()).logits
    assert ours.std() > 0.1 and theirs.dtype == torch.float32
    assert (ours - theirs).abs().max() <= 1e-5


PADDED = ["moe", "window", "hash", "key offset", "latent", "all memories in another order", "all memories with lambdas"]


@pytest.mark.parametrize("shape", PADDED)
def test_padding_changes_no_logits_of_what_is_no_padding(shape):
    plan, told = plan_of(shape), tokens(1, 20)
    made = exported(plan, own_model(plan))
    row, mask = torch.cat((torch.full((1, 6), 9), told), 1), torch.cat((torch.zeros(1, 6), torch.ones(1, 20)), 1).long()
    words = made.prepare_inputs_for_generation(row, mask)
    with torch.no_grad():
        torch.testing.assert_close(made(**words).logits[:, 6:], made(told).logits, rtol=1e-5, atol=1e-5)


def test_labels_give_the_mean_of_the_nats_and_few_logits_are_the_last_ones():
    plan, told = plan_of("moe"), tokens(2)
    made = exported(plan, own_model(plan))
    with torch.no_grad():
        found = made(told, labels=told)
        nats = -torch.log_softmax(found.logits[:, :-1], -1).gather(-1, told[:, 1:, None]).mean()
        torch.testing.assert_close(found.loss, nats)
        torch.testing.assert_close(made(told, logits_to_keep=1).logits, found.logits[:, -1:], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("file", configuration.FILES)
def test_a_file_needs_torch_transformers_and_its_like_alone(file):
    lines = [line for line in (FOLDER / file).read_text().splitlines() if line.startswith(("import ", "from "))]
    sources = {line.split()[1] for line in lines}
    known = {"torch", "transformers", *sys.stdlib_module_names, *(f".{Path(name).stem}" for name in configuration.FILES)}
    assert {source if source.startswith(".") else source.partition(".")[0] for source in sources} <= known


def test_the_file_that_is_loaded_imports_all_others_itself():
    """Older versions of transformers fetch what that file imports, and not what these import."""
    said = (FOLDER / configuration.FILES[0]).read_text()
    assert all(f"\nfrom .{Path(name).stem} import " in said for name in configuration.FILES[1:])


@pytest.mark.parametrize("words", REFUSED)
def test_a_part_without_code_is_refused_by_name_with_what_to_do(words):
    plan = compose([*micro.MOE, *words.split()]).plan
    with pytest.raises(UserError, match=REFUSED[words].replace("[", r"\[")) as caught:
        configuration.configuration(plan)
    assert "export a run with" in caught.value.remedy


def test_a_residual_scheme_from_outside_is_refused(monkeypatch):
    plan = plan_of("moe")
    plan.model.residual = "halves"
    with pytest.raises(UserError, match="model.residual=halves"):
        configuration.configuration(plan)


def test_the_keys_that_it_knows_are_keys_of_plans():
    known = {f"{section}.{name}" for section, names in configuration.KNOWN.items() for name in names}
    assert known <= {key for key, _ in walk()}


@pytest.mark.parametrize(
    "section, key, word",
    [
        ("model", "rope_base", "model.rope_base=500"),
        ("gains", "logits", "gains.logits=2"),
        ("memory.canon", "taps", "memory.canon.taps=2"),
    ],
)
def test_a_key_that_the_export_does_not_know_is_refused_unless_it_has_its_default(section, key, word, monkeypatch):
    left = tuple(name for name in configuration.KNOWN[section] if name != key)
    monkeypatch.setitem(configuration.KNOWN, section, left)
    configuration.check(plan_of("moe"))
    with pytest.raises(UserError, match=word.partition("=")[0]):
        configuration.check(compose([*micro.MOE, word]).plan)


def test_every_lane_in_bf16_has_an_export_and_no_other():
    from harness.plan.lanes import lane_names

    refused = set()
    for name in lane_names():
        try:
            configuration.check(compose([f"lane={name}"]).plan)
        except UserError:
            refused.add(name)
    assert refused == {name for name in lane_names() if Path(name).name.endswith(("-fp8", "-nvfp4"))}


AS_PUBLISHED = {
    "dense": "ApertusForCausalLM",
    "dense relu2 without QK-norm": "ArceeForCausalLM",
    "dense swiglu": "LlamaForCausalLM",
    "dense swiglu with QK-norm": "Qwen3ForCausalLM",
    "shared, leading dense": "Glm4MoeForCausalLM",
}


@pytest.mark.parametrize("shape", AS_PUBLISHED)
def test_a_published_architecture_gets_every_weight_once_output_dimension_first(shape):
    plan = plan_of(shape)
    model = own_model(plan)
    said, tensors = published.configuration(plan), published.tensors(plan, model.state_dict())
    assert said["architectures"] == [AS_PUBLISHED[shape]]
    mlp = "model.layers.0.mlp.down_proj.weight"
    assert tensors[mlp].shape == (32, said["intermediate_size"]) and tensors["lm_head.weight"].shape == (256, 32)
    norms = sum(t.numel() for name, t in tensors.items() if "norm" in name)
    own_norms = sum(p.numel() for name, p in model.named_parameters() if "norm" in name)
    assert sum(t.numel() for t in tensors.values()) - norms == sum(t.numel() for t in model.state_dict().values()) - own_norms


@pytest.mark.parametrize(
    "shape, lacking",
    [("moe", "experts with model.activation=relu2"), ("hash", "model.activation=relu2"), ("dials", "head_gate"),
     ("window", "other than full"), ("key offset", "key_offset"), ("smear", "model.memories=smear"),
     ("softcap", "gains.softcap"), ("lambdas", "model.residual=lambdas")],
)  # fmt: skip
def test_what_no_published_architecture_has_is_named(shape, lacking):
    with pytest.raises(UserError, match=lacking) as caught:
        published.configuration(plan_of(shape))
    assert "leave --published out" in caught.value.remedy
