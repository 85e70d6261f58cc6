"""The lanes of token tracks: published sizes, kept hashes, and what is said where they cannot run."""

import re

import micro
import pytest
import torch

from harness.__main__ import main
from harness.errors import UserError
from harness.model.build import build_model, count_plan
from harness.model.init import owned
from harness.plan import parts
from harness.plan.check_parallel import check_ranks
from harness.plan.compose import compose
from harness.plan.fingerprint import flat, plan_hash, stored_plan_hash, to_yaml
from harness.plan.goal import goal, levels
from harness.plan.lanes import lane_names, read_track, track_names
from harness.plan.schema import LATER
from harness.report.anchors import anchors_of_lane
from harness.train.memory import numbers_per_weight

PUBLISHED = {  # total and active parameters (nmoe, post 0003 and repro/0003.receipts.json)
    "dense": (190_532_352, 190_532_352),
    "moe-64e": (755_534_592, 191_073_024),
    "moe-256e": (2_836_482_816, 192_891_648),
}
RECORDED = {
    "tiny-dense": "18493b885a8d764b21dd179665b9fbce0699eca1a7092a29f2fa4d845499accc",
    "tiny-moe-16e": "ef0b421a388d527e6e1b97277717c7c075f54d56325df2f60f5ee771839eadd5",
    "sotu-dense": "dfb6e0e0d8e43da731a4fcd3ff5f37fa64d40f3f0a7b9bc9a8ba175cd9db3219",
    "sotu-moe-16e": "57646e82478331c85afa3d49fb341b5d008a553f44137e316e4b4667453515cf",
}


@pytest.mark.parametrize("lane", RECORDED)
def test_lanes_of_bytes_keep_the_plan_hash_of_their_records(lane):
    assert plan_hash(compose([f"lane={lane}"]).plan) == RECORDED[lane]


def test_keys_that_joined_later_are_hashed_only_away_from_what_their_absence_meant():
    plan = compose(["lane=tiny-dense"]).plan
    values = flat(plan)
    assert all(values[key] == LATER[key] for key in LATER if key in values)
    changed = compose(["lane=tiny-dense", "unranked=true", "lane.gpu=true"]).plan
    assert plan_hash(changed) != plan_hash(plan)


@pytest.mark.parametrize("lane", ["tiny-dense", "wiki-s-moe-64e", "moe-64e"])
def test_a_stored_plan_has_the_hash_it_was_given(lane):
    import yaml

    plan = compose([f"lane={lane}"]).plan
    assert stored_plan_hash(yaml.safe_load(to_yaml(plan))) == plan_hash(plan)


@pytest.mark.parametrize("lane", [name for size in PUBLISHED for name in (size, f"wiki-{size}")])
def test_built_modules_count_exactly_the_published_parameters(lane):
    found = count_plan(compose([f"lane={lane}"]).plan)
    assert (found.params_total, found.params_active) == PUBLISHED[lane.removeprefix("wiki-")]


def test_the_sparsest_lane_is_counted_without_being_built():
    found = count_plan(compose(["lane=moe-4096e"]).plan)
    assert 43e9 < found.params_total < 44e9


def test_the_lane_of_a_profile_has_its_shape_but_for_the_vocabulary():
    """With that, it counts what the profile's own formula does, and what its other benchmark states."""
    (anchors,) = anchors_of_lane("xl-moe-8e").values()
    stated = {anchor.kind: anchor.value for anchor in anchors if anchor.metric == "params_total"}
    found = count_plan(compose(["lane=xl-moe-8e", "unranked=true", "model.vocab_size=128256"]).plan)
    assert found.params_total == stated["derived"] == 9_233_205_248 and found.params_active == 2_891_417_600
    assert round(found.params_total, -7) == stated["published"]


@pytest.mark.parametrize("lane", ["xl-moe-8e", "xl-dense"])
def test_a_large_lane_states_the_parameters_that_it_has(lane):
    found = count_plan(compose([f"lane={lane}"]).plan)
    said = (micro.ROOT / "lanes" / f"{lane}.yaml").read_text()
    assert f"{found.params_total:,}" in said and (lane == "xl-dense" or f"{found.params_active:,} active" in said)


@pytest.mark.parametrize("ranks", [2, 4, 8])
def test_the_experts_of_a_profile_are_spread_over_a_node(ranks):
    check_ranks(compose(["lane=xl-moe-8e", "parallel.sums=units", f"parallel.ep={ranks}"]).plan, ranks)


def test_all_ranks_of_the_profile_cannot_share_its_experts_which_is_said():
    with pytest.raises(UserError, match="parallel.ep=32: 8 experts cannot be spread equally over 32 ranks") as refused:
        compose(["lane=xl-moe-8e", "parallel.sums=units", "parallel.ep=32"])
    assert "set parallel.ep=8" in refused.value.remedy
    check_ranks(compose(["lane=xl-moe-8e", "parallel.sums=units"]).plan, 32)
    with pytest.raises(UserError, match="parallel.ep=2 with 32 ranks: experts are spread over all of them, or over none"):
        check_ranks(compose(["lane=xl-moe-8e", "parallel.sums=units", "parallel.ep=2"]).plan, 32)


REPLICATED = re.findall(
    r"^\| `([\w-]+)` \| ([\d,.]+) M \| ([\d.]+) \| ([\d.]+) \|$", (micro.ROOT / "lanes" / "README.md").read_text(), re.M
)


@pytest.mark.parametrize("lane, millions, whole, less", REPLICATED)
def test_what_every_rank_holds_beside_experts_is_what_the_page_says(lane, millions, whole, less):
    """Weights, gradients and moments, 4 bytes a number; sharded over 8 ranks, an eighth of it."""
    plan = compose([f"lane={lane}"]).plan
    with torch.device("meta"):
        model = build_model(plan, "full")
    held = [(p.numel(), own.group in parts.MATRICES) for _, p, _, own in owned(model) if not own.by_expert]
    size = sum(
        4 * count * (2 + numbers_per_weight(plan.optim.matrices if matrix else plan.optim.others)) for count, matrix in held
    )
    found = sum(count for count, _ in held) / 1e6, size / 1e9, size * 7 / 8 / 1e9
    assert (millions, whole, less) == tuple(f"{number:,.1f}" for number in found)


def test_the_page_has_that_of_dense_and_of_sparse_lanes():
    assert {"dense", "moe-256e", "moe-4096e", "xl-dense", "xl-moe-8e"} == {row[0] for row in REPLICATED}


def test_plan_shows_published_figures_of_the_lanes_shape_by_kind(capsys):
    assert main(["plan", "lane=xl-moe-8e"]) == 0
    said = capsys.readouterr().out
    _, _, figures = said.partition("published elsewhere of the shape of xl-moe-8e, nothing of it measured here: KempnerForge")
    for part in (r"tokens_per_second +27,000  32xH200  published: KempnerForge 5666d0d", r"memory_gb +49\.8  8xH200 +published",
                 r"tokens_per_step +196,608  32xH200  derived: ", r"params_total +9,233,205,248 +derived: "):  # fmt: skip
        assert re.search(part, figures), part


@pytest.mark.parametrize("ranks, status", [(8, 0), (32, 2)])
def test_published_figures_stand_beside_what_is_predicted_of_so_many_ranks(ranks, status, capsys):
    """Those of the profile's own 32 too, which this lane does not fit."""
    assert main(["plan", "lane=xl-moe-8e", f"ranks={ranks}", "gpu=h200-141"]) == status
    said, refusal = capsys.readouterr()
    assert said.index("tokens_per_second         27,000  32xH200  published: ") < said.index(f"xl-moe-8e on {ranks} ranks")
    assert ("predicted, ms a step" in said) == (status == 0)
    assert ("8 experts cannot be spread equally over 32 ranks" in refusal) == (status == 2)


@pytest.mark.parametrize("words", ["lane=xl-dense", "lane=xl-moe-8e unranked=true model.layers=12"])
def test_plan_shows_no_published_figure_of_another_shape(words, capsys):
    assert main(["plan", *words.split()]) == 0
    assert "published elsewhere" not in capsys.readouterr().out


@pytest.mark.parametrize("lane", ["moe-4096e", "wiki-s-moe-64e"])
def test_plan_prints_what_a_lane_would_take_though_it_does_not_fit_here(lane, capsys, monkeypatch):
    monkeypatch.setattr("harness.launch.starting_plan.memory_available_bytes", lambda device: 1)
    assert main(["plan", f"lane={lane}"]) == 0
    said = capsys.readouterr().out
    assert "GiB" in said and lane in said


def test_a_lane_for_gpus_says_what_runs_here_and_how_to_shorten_it(capsys):
    assert main(["speedrun", "lane=wiki-s-moe-64e"]) == 2
    said = capsys.readouterr().err
    for part in ("made for a GPU", "LANE=tiny-moe-16e", 'LANE=wiki-s-moe-64e SET="unranked=true budget.tokens=65536"'):
        assert part in said


def test_a_shortened_lane_that_does_not_fit_in_memory_names_one_that_does(capsys, monkeypatch):
    monkeypatch.setattr("harness.launch.starting_plan.memory_available_bytes", lambda device: 1 << 30)
    assert main(["speedrun", "lane=wiki-s-moe-64e", "unranked=true", "budget.tokens=4096"]) == 2
    said = capsys.readouterr().err
    assert "needs about" in said and "LANE=tiny-moe-16e" in said


def test_shortening_below_a_micro_batch_shrinks_it_too():
    plan = compose(["lane=wiki-s-moe-64e", "unranked=true", "budget.tokens=4096"]).plan
    assert (plan.batch.tokens_per_step, plan.parallel.micro_batch_tokens) == (4096, 4096)


@pytest.mark.parametrize("track", track_names())
def test_every_target_is_a_level_of_the_curve_or_the_budget_is_fixed(track):
    found = goal(read_track(track))
    expected = {
        "tiny": ("slice_bpb", 1.6624), "sotu": ("slice_bpb", 1.4086), "fineweb": ("slice_loss", 3.28),
        "wiki-race": ("slice_bpb", 1.6556),
    }  # fmt: skip
    assert (found and (found.metric, found.level)) == expected.get(track)
    assert all(level.metric in ("slice_bpb", "slice_loss") for level in levels(read_track(track)).values())


def test_a_milestone_elsewhere_than_on_the_curve_is_never_a_target():
    with pytest.raises(UserError, match="track.target='gpt2_wikitext'"):
        compose(["lane=wiki-dense", "unranked=true", "track.target=gpt2_wikitext"])


@pytest.mark.slow
def test_an_epoch_of_wiki_ends_where_its_lanes_validate():
    for lane in (name for name in lane_names() if name.startswith("wiki-") and not name.endswith("open")):
        plan = compose([f"lane={lane}"]).plan
        epoch = plan.track.tokens.train_tokens / plan.batch.tokens_per_step
        ends = [round(n * epoch) for n in range(1, 9) if round(n * epoch) < plan.steps - 2]
        assert ends and set(ends) <= set(plan.validation.steps)


@pytest.mark.parametrize("words, problem", [
    (["lane=wiki-dense", "model.vocab_size=50256"], "model.vocab_size=50256 for a track of tokens of gpt2"),
    (["lane=tiny-dense", "track.tokens.tokenizer=gpt2"], "a track of tokens has both"),
    (["lane=wiki-dense", "track.tokens.format=bins"], "track.tokens.format='bins'"),
    (["lane=wiki-dense", "track.tokens.tokenizer=gpt3", "track.tokens.format=bin"], "track.tokens.tokenizer='gpt3'"),
    (["lane=wiki-dense", "data.shards=x"], "data.shards on track wiki, which has no token files"),
    (["lane=wiki-dense", "track.tokens.slice_tokens=0"], "track.tokens.slice_tokens=0"),
])  # fmt: skip
def test_keys_that_do_not_go_together_are_named(words, problem):
    with pytest.raises(UserError, match=problem):
        compose([*words, "unranked=true"])
