"""Recipe < lane < command line, and what each may set."""

import shutil
from functools import cache

import pytest
from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from omegaconf import OmegaConf

from harness.errors import UserError
from harness.plan import lanes
from harness.plan.compose import _of_words, compose

LANES = lanes.lane_names()


@cache
def composed_from(*words):
    return compose(words)


def refusal(*words):
    with pytest.raises(UserError) as error:
        compose(list(words))
    return str(error.value)


@pytest.mark.parametrize("lane", LANES)
def test_every_lane_composes_and_breaks_nothing(lane):
    composed = composed_from(f"lane={lane}")
    assert composed.plan.lane.name == lane
    assert composed.broken == {}
    assert composed.plan.budget.tokens % composed.plan.batch.tokens_per_step == 0


CUT = {  # words: (how much of val is scored, what else at the end)
    "lane=tiny-dense budget.tokens=65536": (65536, []),
    "lane=tiny-dense budget.tokens=1064960": (None, []),  # val has 1,062,581 bytes
    "lane=physics-dense budget.tokens=129024": (129024, []),
    "lane=physics-dense budget.tokens=501760": (None, ["tasks"]),  # 131,073 tokens
    "lane=physics-dense": (None, ["tasks"]),
    "lane=wiki-s-dense budget.tokens=524288": (524288, []),
    "lane=wiki-s-dense budget.tokens=1048576": (None, []),  # 780,684 tokens: no hours of CORE for a short look
    "lane=wiki-s-dense": (None, ["wikitext", "core"]),
    "lane=dense budget.tokens=10485760": (None, []),
    "lane=dense budget.tokens=20971520 data.shards=somewhere": (20971520, []),  # only its files know
    "lane=wikitext-dense budget.tokens=1048576": (1048576, []),
    "lane=tiny-dense budget.tokens=65536 validation.tokens=131072": (131072, []),  # as much whatever a budget is
    "lane=tiny-dense validation.tokens=131072": (131072, []),
    "lane=tiny-dense budget.tokens=65536 validation.tokens=2000000": (None, []),
}


@pytest.mark.parametrize("words", CUT)
def test_a_cut_budget_or_a_stated_part_caps_scoring_below_what_val_holds_and_asks_for_no_public_set(words):
    composed = composed_from("unranked=true", *words.split())
    cap, final = CUT[words]
    assert (composed.scoring_cap, composed.partial, composed.final) == (cap, cap is not None, final)


@pytest.mark.parametrize("recipe", sorted(f"{p.parent.name}={p.stem}" for p in lanes.RECIPES.glob("*/*.yaml")))
def test_every_recipe_composes_with_a_lane_that_allows_it(recipe):
    lane = "tiny-moe-16e" if recipe.startswith("balance=") else "tiny-dense"
    composed = compose([f"lane={lane}", recipe])
    group, name = recipe.split("=")
    assert composed.choices[group] == name
    assert composed.broken == {}


@pytest.mark.parametrize("lane", [lane for lane in LANES if not lane.endswith(("-fp8", "-nvfp4", "open"))])
def test_twins_are_a_dense_and_a_moe_lane_of_equal_active_width(lane):
    """Several MoE lanes may share a dense twin, which names one of them back."""
    plan = composed_from(f"lane={lane}").plan
    twin = composed_from(f"lane={plan.lane.twin}").plan
    assert (plan.model.num_experts == 0) != (twin.model.num_experts == 0)
    assert twin.model.num_experts == 0 or twin.lane.twin == lane

    def active_width(model):
        return model.ffn_width if model.num_experts == 0 else model.expert_width * (model.top_k + model.shared_experts)

    assert active_width(plan.model) == active_width(twin.model)
    for section in ("track", "batch", "budget", "validation"):
        assert getattr(plan, section) == getattr(twin, section)
    swapped = {
        "ffn_width",
        "num_experts",
        "expert_width",
        "top_k",
        "shared_experts",
        "leading_dense_layers",
        "moe_every",
        "router",
    }
    same = {name: value for name, value in vars(plan.model).items() if name not in swapped}
    assert same == {name: value for name, value in vars(twin.model).items() if name not in swapped}


@pytest.mark.parametrize(
    "recipe, words, expected",
    [
        ("switch", ["model.router=softmax_topk"], ("none", "constant", 0.01, 0.0)),
        ("sequence", ["model.router=softmax_topk"], ("none", "constant", 0.0, 0.01)),
        ("deepseek", [], ("bias", "constant", 0.0, 0.0001)),
        ("bias-cosine", [], ("bias", "cosine", 0.0, 0.0)),
        ("bias-warmup", [], ("bias", "warmup", 0.0, 0.0)),
    ],
)
def test_balancing_rules_are_recipes(recipe, words, expected):
    b = composed_from("lane=tiny-moe-16e", "unranked=true", f"balance={recipe}", *words).plan.balance
    assert (b.rule, b.schedule, b.aux_loss_coef, b.sequence_loss_coef) == expected


def test_without_words_the_default_lane_is_composed():
    assert compose([]).plan.lane.name == "tiny-moe-16e"


def test_the_command_line_beats_the_recipe():
    plan = compose(["optim=adamw", "optim.adamw.lr=0.5", "seed=7"]).plan
    assert (plan.optim.matrices, plan.optim.adamw.lr, plan.seed) == ("adamw", 0.5, 7)


def test_the_lane_beats_the_default_recipe_and_the_command_line_beats_the_lane():
    assert composed_from("lane=tiny-moe-16e").plan.balance.rule == "bias"
    assert composed_from("lane=tiny-moe-16e", "balance=none").plan.balance.rule == "none"
    assert composed_from("lane=tiny-dense").plan.balance.rule == "none"


def test_composing_is_repeatable_and_keeps_the_words():
    words = ("optim.muon.lr=0.5",)
    assert compose(words) == composed_from(*words)
    assert compose(words).overrides == words


# --- unknown names ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "word, found, remedy",
    [
        ("lane=tiny-dens", "tiny-dens", "tiny-dense"),
        ("lane=", "''", "tiny-dense"),
        ("~lane", "lane", "tiny-dense"),
        ("optim.muon.lrr=1", "optim.muon.lrr", "did you mean optim.muon.lr?"),
        ("model.widht=1", "model.widht", "did you mean model.width?"),
        ("sed=1", "sed", "did you mean seed?"),
        ("+foo=1", "foo", "known:"),
        ("hydraulic=1", "hydraulic", "known:"),
        ("optim.matrices=mun", "optim.matrices='mun'", "did you mean muon?"),
        ("balance.rule=bais", "balance.rule='bais'", "did you mean bias?"),
        ("kernels.backend=cuda", "kernels.backend='cuda'", "reference, torch"),
        ("optim=muonn", "muonn", "did you mean muon?"),
        ("balance=bais", "bais", "did you mean bias?"),
        ("schedule=cosine", "cosine", "wsd"),
        ("track=tinny", "tinny", "did you mean tiny?"),
    ],
)
def test_an_unknown_name_is_refused_with_the_nearest_one(word, found, remedy):
    message = refusal(word)
    assert found in message and remedy in message


# --- types and grammar --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "word",
    [
        "optim.muon.lr=abc", "seed=1.5", "model.width=true", "model=3", "run.folder=null",
        "unranked=maybe", "validation.steps=3", "optim=3", "optim=null", "lane=null", "optim.muon.lr=${nope}", "~optim.muon.lr",
        "model.width=???",
    ],
)  # fmt: skip
def test_a_value_of_the_wrong_type_is_refused_naming_its_key(word):
    assert word.lstrip("~+").split("=")[0] in refusal(word)


@pytest.mark.parametrize("word", ["", "seed", "--seed=1", "a b=3", "seed=(", "seed=[1"])
def test_a_word_that_cannot_be_read_is_refused_with_the_grammar(word):
    message = refusal(word)
    assert repr(word) in message and "key=value" in message


@pytest.mark.parametrize("word", ["seed=1,2", "seed=choice(1,2)", "seed=range(1,3)"])
def test_several_values_ask_for_multirun(word):
    assert "--multirun" in refusal(word)


@pytest.mark.parametrize("word", ["++optim.muon.lr=0.5", "optim.muon.lr='0.5'", "optim.muon={lr: 0.5}"])
def test_spellings_of_one_override_give_one_plan(word):
    plan = composed_from(word).plan
    assert plan.optim.muon.lr == 0.5
    assert plan == composed_from("optim.muon.lr=0.5").plan


@pytest.mark.parametrize("word", ["lane='tiny-dense'", 'lane="tiny-dense"'])
def test_a_lane_may_be_quoted(word):
    assert compose([word]).plan.lane.name == "tiny-dense"


@pytest.mark.parametrize("word", ["run.folder='a, b = c'", 'run.folder="a, b = c"'])
def test_quotes_protect_what_the_grammar_would_split(word):
    assert compose([word]).plan.run.folder == "a, b = c"


def test_appending_a_key_that_exists_says_to_drop_the_plus():
    assert "optim.muon.lr=0.5" in refusal("+optim.muon.lr=0.5")


def test_a_value_may_refer_to_another():
    assert compose(["optim.muon.lr=${optim.adamw.lr}", "optim.adamw.lr=0.25"]).plan.optim.muon.lr == 0.25


# --- frozen keys --------------------------------------------------------------------------------------------------------

FROZEN_WORDS = {
    "model.width=512": "model.width",
    "++model.width=512": "model.width",
    "model={width: 512}": "model.width",
    "budget.tokens=65536": "budget.tokens",
    "precision.format=fp32": "precision.format",
    "validation.steps=[128]": "validation.steps",
    "track=sotu": "track.name",
    "track.lines.ngram7.slice=9": "track.lines",
}


@pytest.mark.parametrize("word, key", FROZEN_WORDS.items())
def test_a_frozen_key_is_refused_and_with_unranked_listed_as_broken(word, key):
    message = refusal("lane=tiny-moe-16e", word)
    assert key in message and "unranked=true" in message and "tiny-moe-16e" in message
    composed = compose(["lane=tiny-moe-16e", word, "unranked=true"])
    was, now = composed.broken[key]
    assert was != now
    assert word.split("=")[0].startswith("track") or set(composed.broken) == {key}


def test_another_track_breaks_every_key_in_which_it_differs():
    assert set(compose(["lane=tiny-dense", "track=sotu", "unranked=true"]).broken) == {"track.name", "track.target"}


def test_a_frozen_key_set_to_the_lanes_own_value_breaks_nothing():
    assert compose(["lane=tiny-dense", "model.width=256", "track=tiny"]).broken == {}


def test_a_lane_cannot_be_renamed_because_records_find_its_file_by_name():
    message = refusal("lane=tiny-dense", "lane.name=mine", "unranked=true")
    assert "lane.name" in message and "mine" in message


def test_unranked_alone_breaks_nothing():
    assert compose(["unranked=true"]).broken == {}


def test_a_plan_leaves_nothing_behind_in_those_composed_after_it():
    """What is registered with Hydra is shared by all compositions of a process, and so is what a lane freezes."""
    before = composed_from("lane=tiny-moe-16e").plan
    words = ["++model.width=512", "model.layers=1", "track.lines.ngram7.slice=9", "optim.muon.lr=1", "validation.steps=[1]"]
    first, second = (compose(["lane=tiny-moe-16e", *words, "unranked=true"]) for _ in range(2))
    assert first.broken == second.broken and first.plan == second.plan != before
    assert compose(["lane=tiny-moe-16e"]).plan == before and not compose(["lane=tiny-moe-16e"]).broken


AT_ONCE = [
    ["optim.muon.lr=1", "lane=tiny-dense", "optim.muon.lr=2", "optim=adamw", "unranked=true", "track=sotu"],
    ["lane=tiny-moe-16e", "optim={clip_norm: 1.0, muon: {lr: 0.5}}", "validation.steps=[1,2]", "++seed=3", "~balance"],
    ["track.lines.ngram7.slice=9", "run.folder=${lane.name}/x", "run.folder=a b", "balance=deepseek", "balance.rule=none"],
]


@pytest.mark.parametrize("words", AT_ONCE, ids=" ".join)
def test_a_plan_is_what_hydra_composes_of_all_its_words_at_once(words):
    lanes.register()
    with initialize_config_dir(str(lanes.RECIPES), version_base="1.3"):
        expected = hydra_compose("plan", overrides=words)
    found, _ = _of_words(tuple(words), lanes.RECIPES)
    assert OmegaConf.to_container(found) == OmegaConf.to_container(expected)


@pytest.fixture
def recipes(monkeypatch, tmp_path):
    """A copy of the recipes that a test may add to."""
    shutil.copytree(lanes.RECIPES, tmp_path / "recipes")
    monkeypatch.setattr(lanes, "RECIPES", tmp_path / "recipes")
    return tmp_path / "recipes"


def test_a_part_of_val_is_scored_on_public_sets_only_where_the_command_line_asks_for_them_by_name():
    words, cut = ["lane=physics-dense", "unranked=true"], "budget.tokens=65536"
    assert compose(words).final == ["tasks"] and compose([*words, cut]).final == []
    assert compose([*words, cut, "track.tokens.final=[tasks]"]).final == ["tasks"]
    assert compose([*words, cut, "track.tokens.final=[]"]).final == []


def test_a_recipe_added_as_a_file_is_composed(recipes):
    (recipes / "optim" / "mine.yaml").write_text("matrices: adamw\nadamw: {lr: 0.5}\n")
    assert compose(["optim=mine"]).plan.optim.adamw.lr == 0.5


WIDER = {
    "global": "# @package _global_\nmodel: {norm_weight: true}\n",
    "other package": "# @package model\nnorm_weight: true\n",
    "beside free keys": "# @package _global_\noptim: {clip_norm: 1.0}\nmodel: {norm_weight: true}\n",
}


@pytest.mark.parametrize("text", WIDER.values(), ids=WIDER)
def test_a_recipe_that_sets_a_frozen_key_is_refused_by_name_even_with_unranked(recipes, text):
    (recipes / "optim" / "wider.yaml").write_text(text)
    message = refusal("optim=wider", "unranked=true")
    assert "wider.yaml" in message and "model.norm_weight" in message


def test_a_default_recipe_that_sets_a_frozen_key_is_refused(recipes):
    (recipes / "schedule" / "wsd.yaml").write_text("# @package _global_\nmodel: {norm_weight: true}\n")
    assert "model.norm_weight" in refusal()


def test_a_recipe_built_on_another_that_sets_a_frozen_key_is_refused(recipes):
    (recipes / "optim" / "wider.yaml").write_text("# @package _global_\nmodel: {norm_weight: true}\n")
    (recipes / "optim" / "outer.yaml").write_text("defaults:\n  - wider\n  - _self_\nclip_norm: 1.0\n")
    assert "model.norm_weight" in refusal("optim=outer", "unranked=true")


def test_a_broken_recipe_file_is_named(recipes):
    (recipes / "optim" / "torn.yaml").write_text("matrices: [unclosed\n")
    assert "torn" in refusal("optim=torn")


def test_a_recipe_with_an_unknown_key_is_refused_naming_it(recipes):
    (recipes / "optim" / "typo.yaml").write_text("muon: {learning: 1}\n")
    assert "learning" in refusal("optim=typo")
