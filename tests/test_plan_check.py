"""Impossible plans: each refusal names the values found and what to type instead."""

import pytest
from plan_words import with_words

from harness.errors import UserError
from harness.plan.check import check
from harness.plan.compose import compose

MOE, DENSE = compose(["lane=tiny-moe-16e"]).plan, compose(["lane=tiny-dense"]).plan

LOSSES = ("aux_loss_coef", "sequence_loss_coef", "z_loss_coef")
UNBALANCED = ("balance.rule=none", "balance.rate=0")

IMPOSSIBLE = [
    # words over tiny-moe-16e (width 256, 4 heads, 4 layers, 16 experts, S 256, 4096 a step), then what the message must hold
    (["model.heads=3"], ["model.heads=3", "model.width=256"]),
    (["model.heads=256"], ["model.heads=256", "even"]),
    (["model.heads=0"], ["model.heads=0", "at least 1"]),
    (["model.width=0"], ["model.width=0", "at least 1"]),
    (["model.layers=-1"], ["model.layers=-1", "at least 1"]),
    (["model.vocab_size=0"], ["model.vocab_size=0", "at least 1"]),
    (["model.vocab_size=100"], ["model.vocab_size=100", "256"]),
    (["model.sequence_length=0"], ["model.sequence_length=0", "at least 1"]),
    (["model.rope_base=0"], ["model.rope_base=0"]),
    (["model.top_k=17"], ["model.top_k=17", "model.num_experts=16", "1..16"]),
    (["model.top_k=0"], ["model.top_k=0", "1..16"]),
    (["model.num_experts=-1"], ["model.num_experts=-1"]),
    (["model.expert_width=0"], ["model.expert_width=0", "at least 1"]),
    (["model.shared_experts=-1"], ["model.shared_experts=-1"]),
    (["model.leading_dense_layers=4"], ["model.leading_dense_layers=4", "model.layers=4", "at least one MoE layer"]),
    (["model.leading_dense_layers=1"], ["model.ffn_width=0", "set model.ffn_width"]),
    (["model.router=hash"], ["balance.rule=bias", "model.router=hash", "balance=none"]),
    (["model.num_experts=0"], ["model.ffn_width=0", "model.num_experts"]),
    (["model.router=softmax_topk"], ["balance.rule=bias", "model.router=softmax_topk", "sigmoid_topk", "balance=switch"]),
    (
        ["model.router=softmax_topk", "model.top_k=1", "balance.rule=none", "balance.rate=0"],
        ["model.top_k=1", "model.router=softmax_topk", "model.router_renormalize=false"],
    ),
    (
        ["model.router=hash", *UNBALANCED, "model.router_renormalize=False"],
        ["model.router_renormalize=false", "model.router=hash"],
    ),
    *(
        (["model.router=hash", *UNBALANCED, f"balance.{key}=0.5"], [f"balance.{key}=0.5", "router=hash", f"{key}=0"])
        for key in LOSSES
    ),
    *(([f"balance.{key}=-0.5"], [f"balance.{key}=-0.5", "from 0"]) for key in (*LOSSES, "capacity_factor")),
    (["balance.z_loss_coef=nan"], ["balance.z_loss_coef=nan"]),
    (
        ["balance.sequence_loss_coef=0.1", "model.sequence_length=1"],
        ["balance.sequence_loss_coef=0.1", "model.sequence_length=1", "aux_loss_coef"],
    ),
    (["balance.capacity_factor=4"], ["balance.capacity_factor=4", "num_experts=16", "top_k=4", "less than 4"]),
    (["balance.capacity_factor=1", "model.top_k=16", *UNBALANCED], ["balance.capacity_factor=1", "capacity_factor=0"]),
    (
        ["balance.capacity_factor=3.999", "parallel.micro_batch_tokens=256"],
        ["balance.capacity_factor=3.999", "256 of a micro-batch's 256 tokens", "less than 4"],
    ),
    (
        ["model.router=hash", *UNBALANCED, "balance.capacity_factor=1"],
        ["balance.capacity_factor=1", "model.router=hash", "capacity_factor=0"],
    ),
    (["model.top_k=1"], ["model.router=sigmoid_topk", "model.top_k=1", "model.router_renormalize=false"]),
    (["model.top_k=16"], ["balance.rule=bias", "model.top_k=16", "balance=none"]),
    (["model.top_k=16", *UNBALANCED, "balance.aux_loss_coef=1"], ["balance.aux_loss_coef=1", "model.top_k=16"]),
    (["model.top_k=16", *UNBALANCED, "balance.sequence_loss_coef=1"], ["sequence_loss_coef=1", "model.top_k=16"]),
    (["model.top_k=16", *UNBALANCED, "optim.expert_gradient_scale=load"], ["expert_gradient_scale=load", "model.top_k=16"]),
    (["model.num_experts=32", "model.top_k=31"], ["model.top_k=31", "97%", "collapse_load=0.95", "1 with unranked=true"]),
    (["balance.rule=none"], ["balance.rate=0.02", "balance.rule=none", "balance=bias", "balance=none"]),
    (["balance.schedule=linear"], ["balance.schedule='linear'"]),
    (["balance.schedule=cosine", "balance.rule=none"], ["balance.schedule=cosine", "balance.rule=none", "balance=bias"]),
    (["balance.schedule=warmup", "schedule.warmup_share=0"], ["balance.schedule=warmup", "schedule.warmup_share=0"]),
    (["model.moe_every=0", "model.ffn_width=512"], ["model.moe_every=0", "1 (every layer) to 4"]),
    (
        ["model.moe_every=4", "model.leading_dense_layers=1", "model.ffn_width=512"],
        ["model.moe_every=4", "3 layers after", "leading_dense_layers=1", "to 3"],
    ),
    (["model.moe_every=2"], ["model.ffn_width=0", "model.moe_every=2", "set model.ffn_width"]),
    (["optim.expert_gradient_scale=2"], ["optim.expert_gradient_scale='2'"]),
    (["batch.tokens_per_step=4000"], ["batch.tokens_per_step=4000", "multiple of"]),
    (["batch.tokens_per_step=0"], ["batch.tokens_per_step=0", "multiple of"]),
    (["batch.stages=[2048,4000]"], ["stage 2 of batch.stages=[2048, 4000]", "4000 tokens", "model.sequence_length=256"]),
    (["batch.stages=[2048,0]"], ["batch.stages=[2048, 0]", "multiples of model.sequence_length"]),
    (["batch.stages=[-2048]"], ["batch.stages=[-2048]", "multiples of model.sequence_length"]),
    (
        ["batch.stages=[4096,1048576]"],
        ["stage 2 of batch.stages=[4096, 1048576]", "budget.tokens=1572864 has 786432", "2,097,152 or more"],
    ),
    (["batch.stages=[2097152]"], ["2097152 tokens a step", "budget.tokens=1572864", "2,097,152 or more"]),
    (
        ["batch.stages=[2048,4096]", "parallel.micro_batch_tokens=4096"],
        ["stage 1 of batch.stages=[2048, 4096]", "parallel.micro_batch_tokens=4096 does not divide", "divides 2048"],
    ),
    (
        ["batch.stages=[4096,6144]", "parallel.micro_batch_tokens=4096"],
        ["stage 2 of batch.stages=[4096, 6144]", "parallel.micro_batch_tokens=4096 does not divide", "divides 2048"],
    ),
    (["batch.stage_shares=[1]"], ["batch.stage_shares=[1] without batch.stages"]),
    (["batch.stages=[2048,4096]", "batch.stage_shares=[0.5,0.6]"], ["batch.stage_shares=[0.5, 0.6] sum to 1.1"]),
    (["batch.stages=[2048,4096]", "batch.stage_shares=[1.0]"], ["batch.stage_shares=[1.0] for 2 stages"]),
    (["batch.stages=[2048,4096]", "batch.stage_shares=[1.5,-0.5]"], ["batch.stage_shares=[1.5, -0.5]", "from 0 to 1"]),
    (["batch.stages=[2048,4096]", "batch.stage_shares=[.nan,1]"], ["batch.stage_shares=[nan, 1]"]),
    (["batch.stages=[2048,4096]", "batch.stage_shares=[0,1]"], ["stage 1 of batch.stages", "has 0", "a share above 0"]),
    (["schedule.batch_lr=sqrt"], ["schedule.batch_lr=sqrt without batch.stages", "leave schedule.batch_lr=linear"]),
    (["schedule.batch_lr=cubic"], ["schedule.batch_lr='cubic'"]),
    (
        ["batch.stages=[256,512]", "balance.capacity_factor=3.999"],
        ["balance.capacity_factor=3.999", "512 of a micro-batch's 512 tokens"],
    ),
    (["budget.tokens=3"], ["budget.tokens=3", "at least"]),
    (["parallel.sums=units"], ["parallel.micro_batch_tokens=0", "set parallel.micro_batch_tokens=512"]),
    (["parallel.sums=units", "parallel.micro_batch_tokens=768"], ["does not divide a step of 4096", "micro_batch_tokens=512"]),
    (["parallel.micro_batch_tokens=100"], ["parallel.micro_batch_tokens=100", "multiple of"]),
    (["parallel.micro_batch_tokens=-1024"], ["parallel.micro_batch_tokens=-1024"]),
    (["validation.batch_tokens=10"], ["validation.batch_tokens=10", "at least one sequence"]),
    (["validation.steps=[-4]"], ["validation.steps", "-4"]),
    (["schedule.warmup_share=0.7", "schedule.decay_share=0.7"], ["warmup_share=0.7", "decay_share=0.7"]),
    (["schedule.warmup_share=-0.1", "schedule.decay_share=0.5"], ["schedule.warmup_share=-0.1"]),
    (["schedule.decay_share=-0.1", "schedule.warmup_share=0.5"], ["schedule.decay_share=-0.1"]),
    (["track.tokens.final=[cores]"], ["track.tokens.final names 'cores'", "wikitext, core, tasks"]),
    (["track.tokens.final=[core]"], ["final names core", "the tokenizer gpt2", "none, its tokens are bytes", "can have none"]),
    (["track.tokens.final=[tasks]"], ["final names tasks", "the tokenizer tasks", "none, its tokens are bytes"]),
    (["schedule.final_fraction=2"], ["schedule.final_fraction=2"]),
    (["schedule.final_fraction=-0.5"], ["schedule.final_fraction=-0.5"]),
    (["optim.muon.lr=-1"], ["optim.muon.lr=-1"]),
    (["optim.muon.lr=nan"], ["optim.muon.lr=nan"]),
    (["optim.adamw.lr=inf"], ["optim.adamw.lr=inf"]),
    (["optim.muon.momentum=1"], ["optim.muon.momentum=1"]),
    (["optim.muon.newton_schulz_steps=0"], ["optim.muon.newton_schulz_steps=0"]),
    (["optim.adamw.beta1=1.5"], ["optim.adamw.beta1=1.5"]),
    (["optim.adamw.eps=0"], ["optim.adamw.eps=0"]),
    (["optim.clip_norm=-1"], ["optim.clip_norm=-1"]),
    (["init.matrix_gain=-1"], ["init.matrix_gain=-1"]),
    (["balance.rate=0"], ["balance.rate=0", "balance=none"]),
    (["balance.rate=nan"], ["balance.rate=nan"]),
    (["health.window_steps=0"], ["health.window_steps=0", "at least 1"]),
    (["run.log_every_steps=0"], ["run.log_every_steps=0", "at least 1"]),
    (["run.keep_checkpoints=0"], ["run.keep_checkpoints=0", "at least 1"]),
    (["run.checkpoint_steps=[0]"], ["run.checkpoint_steps=[0]", "steps of 1 or more"]),
    (["run.stop_after_step=-1"], ["run.stop_after_step=-1"]),
    (["track.target=ngram8"], ["track.target='ngram8'", "did you mean ngram7?"]),
    (["track.slice_bytes=0"], ["track.slice_bytes=0"]),
    (["seed=-1"], ["seed=-1", "0 or more"]),
]


@pytest.mark.parametrize("words, parts", IMPOSSIBLE, ids=[",".join(words) for words, _ in IMPOSSIBLE])
def test_an_impossible_plan_is_refused_with_its_values_and_a_remedy(words, parts):
    with pytest.raises(UserError) as error:
        check(with_words(MOE, words))
    assert [part for part in parts if part not in str(error.value)] == []
    assert error.value.remedy


@pytest.mark.parametrize(
    "words, parts",
    [
        (["model.ffn_width=0"], ["model.ffn_width=0", "set model.ffn_width"]),
        (["model.top_k=2"], ["num_experts=0", "top_k"]),
        (["model.shared_experts=1"], ["num_experts=0", "shared_experts"]),
        (["model.leading_dense_layers=1"], ["num_experts=0", "leading_dense_layers"]),
        (["balance.rule=bias"], ["balance.rule=bias", "balance=none"]),
        (["balance.rate=0.1"], ["balance.rate=0.1", "balance=none"]),
        (["balance.schedule=cosine"], ["balance.schedule=cosine", "balance=none"]),
        (["gains.expert_output=2"], ["gains.expert_output=2", "gains.expert_output=1"]),
        (["model.expert_width=77"], ["model.expert_width=77", "model.expert_width=0"]),
        (["balance.aux_loss_coef=1"], ["balance.aux_loss_coef=1", "balance=none"]),
        (["balance.capacity_factor=1"], ["balance.capacity_factor=1", "balance=none"]),
        (["model.moe_every=2"], ["num_experts=0", "moe_every"]),
        (["optim.expert_gradient_scale=load"], ["optim.expert_gradient_scale=load", "none"]),
    ],
)
def test_moe_keys_in_a_dense_lane_are_refused(words, parts):
    with pytest.raises(UserError) as error:
        check(with_words(DENSE, words))
    assert [part for part in parts if part not in str(error.value)] == []


@pytest.mark.parametrize(
    "words",
    [
        ["model.top_k=1", "model.router_renormalize=False"],
        ["model.top_k=16", *UNBALANCED],
        ["model.top_k=15", "model.num_experts=16"],
        ["model.router=hash", *UNBALANCED],
        ["model.router=hash", "model.top_k=1", *UNBALANCED],
        ["model.leading_dense_layers=3", "model.ffn_width=512"],
        ["model.moe_every=4", "model.ffn_width=512"],
        ["model.router=softmax_topk", *UNBALANCED, "balance.aux_loss_coef=0.01", "balance.z_loss_coef=0.001"],
        ["balance.sequence_loss_coef=0.0001", "balance.schedule=cosine", "balance.capacity_factor=1.25"],
        ["balance.aux_loss_coef=0", "balance.capacity_factor=0"],
        ["schedule.warmup_share=0", "schedule.decay_share=1"],
        ["schedule.final_fraction=1"],
        ["parallel.micro_batch_tokens=1024"],
        ["budget.tokens=65536"],
        ["batch.stages=[4096]"],
        ["batch.stages=[8192,256,4096]", "parallel.micro_batch_tokens=256"],
        ["batch.stages=[2048,4096,8192]", "batch.stage_shares=[0.1,0.2,0.7]"],
        ["batch.stages=[2048,4096,8192]", "batch.stage_shares=[0.3333333,0.3333333,0.3333333]"],
        ["batch.stages=[256,786432]"],
        ["batch.stages=[2048,4096]", "schedule.batch_lr=none"],
        ["optim.multipliers.router=0"],
        ["seed=0"],
    ],
)
def test_the_edges_of_what_is_possible_are_allowed(words):
    check(with_words(MOE, words))


def test_a_budget_under_one_step_still_takes_a_step():
    """The step shrinks to the budget."""
    plan = compose(["lane=tiny-moe-16e", "unranked=true", "budget.tokens=1024"]).plan
    assert plan.steps == 1
    assert plan.batch.tokens_per_step == 1024


@pytest.mark.parametrize("plan", [MOE, DENSE])
def test_lanes_pass_their_own_check(plan):
    check(plan)
