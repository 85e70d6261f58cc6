"""Words of the command line: what they may say, and that any value can be said."""

import re
import subprocess

import micro
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from harness.errors import UserError
from harness.plan import lanes
from harness.plan.compose import compose
from harness.plan.fingerprint import plan_hash
from harness.plan.stored import words_of
from harness.plan.words import known_words, word

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20).filter(lambda text: "${" not in text and text != "???")


def refusal(*words, sweeps=False):
    with pytest.raises(UserError) as error:
        known_words(list(words), sweeps)
    return str(error.value)


def folder_of(words):
    """What Hydra makes of words that were let through."""
    from hydra.core.override_parser.overrides_parser import OverridesParser

    return OverridesParser.create().parse_override(known_words(words)[0]).value()


@settings(max_examples=300, deadline=None)
@given(TEXTS)
@example("runs/a b, (c) 'd' \"e\" \\ ü")
@example('\\"')
@example("a\\")
def test_any_text_can_be_said(text):
    assert folder_of([word("run.folder", text)]) == text


@pytest.mark.parametrize("text", ["runs/a b, (c)", "ü'\"", "\\", "a=b", "~/x", "null", "true", "1e3", "", " "])
def test_a_plan_has_the_text_that_was_said(text):
    assert compose([word("run.folder", text)]).plan.run.folder == text


@pytest.mark.parametrize("path", ["runs/ä", "runs/(a)", "~/x", "a=b", "it's", "runs/a b"])
def test_a_path_that_hydras_grammar_does_not_take_is_taken_as_it_is(path):
    assert compose([f"run.folder={path}"]).plan.run.folder == path


@pytest.mark.parametrize("said", ["run.folder=a,b", "optim.muon.lr=ä", "run.folder='a"])
def test_where_quotes_are_needed_the_message_shows_them_for_the_shell_and_for_make(said):
    message = refusal(said)
    key = said.split("=")[0]
    assert f"""'{key}="a, b (c)"'""" in message and f"""SET="'{key}=\\"a, b (c)\\"'" """.rstrip() in message


def test_the_quotes_that_messages_show_work_in_the_shell_and_in_make(tmp_path):
    (tmp_path / "Makefile").write_text("show:\n\t@printf '%s\\n' $(SET)\n")
    shown = re.search("('run.folder=.*'), in make (SET=.*)", refusal("run.folder=a,b")).groups()
    for line in (f"printf '%s\\n' {shown[0]}", f"make -s show {shown[1]}"):
        said = subprocess.run(["sh", "-c", line], capture_output=True, text=True, cwd=tmp_path, check=True).stdout.rstrip("\n")
        assert folder_of([said]) == "a, b (c)", line


# --- what is not said ---------------------------------------------------------------------------------------------------

PLUGINS = ["hydra/launcher=joblib", "hydra/sweeper=optuna", "hydra.sweeper.n_trials=3", "hydra/sweeper/sampler=grid"]


@pytest.mark.parametrize("said", PLUGINS)
def test_launchers_and_sweepers_belong_to_multirun(said):
    assert known_words([said], sweeps=True) == [said]
    assert "--multirun" in refusal(said)


@pytest.mark.parametrize("sweeps", [False, True])
@pytest.mark.parametrize(
    "said",
    ["hydra.searchpath=[file:///tmp]", "hydra.searchpath=[pkg://x]", "+hydra.callbacks.x={_target_: os.system}", "hydra=x",
     "hydra/job_logging=x", "hydra.run.dir=x", "hydra.job.env_set.A=b", "hydra/output=x"],
)  # fmt: skip
def test_no_word_leads_out_of_this_repository(said, sweeps):
    assert "this repository alone" in refusal(said, sweeps=sweeps)


@pytest.mark.parametrize("said", ["--config-dir=/tmp", "--config-path=x", "-cd", "--multirun", "--experimental-rerun=x"])
def test_hydras_own_flags_are_no_words(said):
    assert "cannot read" in refusal(said, sweeps=True)


COMPUTED = ["${now:%S}", "${oc.env:HOME}", "x${oc.env:HOME}", "${${x}:y}", "${oc.select:seed}", "${hydra:runtime.cwd}"]


@pytest.mark.parametrize("value", COMPUTED)
def test_a_value_that_may_differ_from_call_to_call_is_refused(value):
    assert "is computed when it is read" in refusal(f"optim.muon.lr={value}")
    assert "is computed when it is read" in refusal(f"run.folder='{value}'", sweeps=True)


@pytest.mark.parametrize("key", ["optim/mine.yaml", "schedule/wsd.yaml"])
def test_a_recipe_that_is_computed_is_refused_by_name(key, monkeypatch, tmp_path):
    import shutil

    shutil.copytree(lanes.RECIPES, tmp_path / "recipes")
    monkeypatch.setattr(lanes, "RECIPES", tmp_path / "recipes")
    (tmp_path / "recipes" / key).write_text("decay_share: ${oc.env:DECAY}\n" if "wsd" in key else "clip_norm: ${oc.env:CLIP}\n")
    with pytest.raises(UserError, match="is computed when it is read") as error:
        compose(["optim=mine"] if "mine" in key else [])
    assert key in str(error.value)


# --- plans in words -----------------------------------------------------------------------------------------------------

PLANS = [
    ["lane=tiny-moe-16e"],
    ["lane=tiny-moe-16e-nvfp4", "balance=deepseek", "optim=adamw", "seed=7", "optim.adamw.eps=1e-12"],
    ["lane=tiny-dense-fp8", "precision.high_precision_operands=[weight,hidden]", "run.folder=/elsewhere"],
    ["lane=wiki-s-moe-64e", "unranked=true", "budget.tokens=65536", "model.moe_every=2"],
    ["lane=tiny-dense", "track=sotu", "unranked=true"],
    micro.MOE,
]


@pytest.mark.parametrize("words", PLANS, ids=lambda words: words[0])
def test_a_stored_plan_said_in_words_is_the_same_plan(words):
    import yaml

    from harness.plan.fingerprint import to_yaml

    composed = compose(words)
    stored = yaml.safe_load(to_yaml(composed.plan))
    again = compose(words_of(stored, "plan.yaml"))
    assert plan_hash(again.plan) == plan_hash(composed.plan) and again.plan.seed == composed.plan.seed
    assert (again.partial, again.scoring_cap, again.plan.unranked) == (
        composed.partial, composed.scoring_cap, composed.plan.unranked,
    )  # fmt: skip
    assert compose(words_of(stored, "plan.yaml", seed=11)).plan.seed == 11


def test_keys_that_the_schema_has_gained_are_not_said():
    """At the commit that stored the plan they are unknown."""
    import yaml

    from harness.plan.fingerprint import to_yaml

    stored = yaml.safe_load(to_yaml(compose(["lane=tiny-moe-16e"]).plan))
    del stored["gains"], stored["balance"]["schedule"]
    said = words_of(stored, "plan.yaml")
    assert not [w for w in said if w.startswith(("gains.", "balance.schedule"))]
    assert plan_hash(compose(said).plan) == plan_hash(compose(["lane=tiny-moe-16e"]).plan)


@pytest.mark.parametrize("said", [{"x": 1}, {"run": {"folder": "${oc.env:HOME}"}}, {"data": {"shards": "${now:%S}"}}])
def test_a_stored_plan_that_says_more_than_the_schema_knows_is_not_put_into_words(said):
    import yaml

    from harness.plan.fingerprint import to_yaml

    stored = yaml.safe_load(to_yaml(compose(["lane=tiny-moe-16e"]).plan))
    for section, values in said.items():
        stored[section] = stored.get(section, {}) | values if isinstance(values, dict) else values
    with pytest.raises(UserError, match="plan.yaml"):
        words_of(stored, "plan.yaml")
