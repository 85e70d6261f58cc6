"""What `inspect` reads of a model against the model itself, on models small enough to ask everything of."""

import micro
import numpy as np
import pytest
import torch
from reading import saying
from torch.nn.functional import cross_entropy

from harness.data.corpora import Val
from harness.data.instances import NONE, Instance, instance, is_test
from harness.errors import UserError
from harness.evaluate.inspect import sample as samples_module
from harness.evaluate.inspect.ablation import ablation, to_silence
from harness.evaluate.inspect.inspected import DENSE, inspected, untrained
from harness.evaluate.inspect.looks import looks
from harness.evaluate.inspect.sample import CLASSES, of_instances, samples_of, token_class
from harness.evaluate.inspect.seen import again, look, run, silenced
from harness.model.build import build_model
from harness.model.init import initialize
from harness.model.product import product
from harness.model.where import Where
from harness.plan.compose import compose
from harness.report.inspect.figure import draw_inspect
from harness.report.inspect.text import as_text

RESIDUALS = pytest.mark.parametrize("residual", ["plain", "lambdas", "hyper"])


def planned(*words, lane=micro.MOE):
    return compose([*lane, *words]).plan


def toys(instances=12, states=4):
    """Instances of different lengths: the last two tokens are answers, decided by the third token and by none. States are what
    an id tells."""
    draws, found = np.random.default_rng(5), []
    for _ in range(instances):
        ids = draws.integers(200, size=int(draws.integers(8, 20)))
        made = instance(ids.tolist(), [len(ids) - 2, len(ids) - 1], 1)
        made.source_N[-2], made.latent_N[:] = 2, ids % states
        found.append(made)
    return found, of_instances("toy", tuple("abcd"[:states]), found)


@RESIDUALS
def test_the_last_depth_is_the_models_own_loss_and_the_first_is_the_embedding(residual):
    """Of every instance by itself: what is behind the end of a shorter one reaches nothing."""
    plan = planned(f"model.residual={residual}")
    model, (found, sample) = saying(plan), toys()
    seen, at = look(model, sample, 10_000), 0
    assert seen.nats_DA.shape == (3, 24) and seen.spread_DMW.shape == (3, sum(len(i.token_N) for i in found), 32)
    for number, one in enumerate(found):
        token_1S = torch.from_numpy(one.token_N.astype(np.int64))[None]
        with torch.no_grad():
            logits_V = model.logits(token_1S)[0, -3:-1]
            answer = token_1S[0, -2:]
            nats = cross_entropy(logits_V, answer, reduction="none")
            embedded = torch.nn.functional.embedding(token_1S[0], model.embedding) * model.gains.embedding
        wanted = (logits_V > logits_V.gather(1, answer[:, None])).sum(1) + 1
        assert seen.nats_DA[-1, 2 * number : 2 * number + 2] == pytest.approx(nats.numpy(), abs=1e-4)
        assert seen.rank_DA[-1, 2 * number : 2 * number + 2].tolist() == wanted.tolist()
        assert np.allclose(seen.spread_DMW[0, at : at + len(one.token_N)], embedded, atol=1e-6)
        at += len(one.token_N)


@RESIDUALS
def test_blocks_that_compute_again_say_the_same_bits(residual):
    model, (_, sample) = saying(planned(f"model.residual={residual}")), toys()
    before = run(model, sample.token_BS)
    for layer in range(2):
        assert torch.equal(again(model, before, layer), before.last_BSW)


def test_looking_leaves_no_hook_behind():
    model, (_, sample) = saying(planned()), toys()
    look(model, sample, 10_000)
    with silenced(model.blocks[0].feedforward.router, 0):
        pass
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


def test_the_experts_that_are_read_are_those_that_the_router_chose():
    model, (_, sample) = saying(planned()), toys()
    chosen_LBSK = look(model, sample, 10_000).chosen_LBSK
    assert chosen_LBSK.shape == (2, *sample.token_BS.shape, 2)
    with torch.no_grad():
        x_TD, handle = [], model.blocks[1].feedforward.router.register_forward_pre_hook(lambda _, given: x_TD.append(given[0]))
        counts = model(Where(torch.from_numpy(sample.token_BS)), torch.zeros(sample.token_BS.shape, dtype=torch.int64)).count_LE
        handle.remove()
        router = model.blocks[1].feedforward.router
        best = (torch.sigmoid(x_TD[0] @ router.weight) + router.bias).topk(2).indices
    assert [np.bincount(layer.ravel(), minlength=8).tolist() for layer in chosen_LBSK] == counts.tolist()
    assert np.array_equal(chosen_LBSK[1].reshape(-1, 2), best)


GROUPED = ("model.heads=4", "attention.full.kv_heads=2", "attention.full.gain=1.5", "attention.full.rotated=4")
OFFSET = ("attention.full.rotated=4", "attention.full.key_offset=true")
LATENT = ("model.attention=mla", "attention.mla.rank=8", "attention.mla.rotary=4")


@pytest.mark.parametrize("words", [(), GROUPED, OFFSET, LATENT], ids=["full", "grouped", "offset", "mla"])
@pytest.mark.parametrize("documents", [False, True])
def test_the_weights_of_an_attention_mix_its_values_as_it_does(words, documents):
    """A softmax read apart against torch's attention: what it gives is what the output is made of, and nobody sees later."""
    model = saying(planned(*words))
    attention, token_BS = model.blocks[0].attention, torch.from_numpy(toys()[1].token_BS)
    document_BS = (torch.arange(token_BS.shape[1]) > 5).long().expand_as(token_BS) if documents else None
    where = Where(token_BS, document_BS=document_BS)
    where = where._replace(shared=model.shared[model.shape.attentions[0]](where))
    x_BSD = torch.randn(*token_BS.shape, 32, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        weight_BHSS = attention.weights(x_BSD, where)
        if words == LATENT:
            v_BSHA = product(attention._made(x_BSD, where)[2], attention.value_up, attention.arithmetic)
            v_BSHA = v_BSHA.unflatten(-1, (attention.heads, -1))
        else:
            v_BSHA = attention._operands(x_BSD, where)[2]
            v_BSHA = v_BSHA.repeat_interleave(attention.heads // v_BSHA.shape[2], 2)
        mixed_BSD = torch.einsum("bhst,bthd->bshd", weight_BHSS, v_BSHA).flatten(2)
        torch.testing.assert_close(mixed_BSD @ attention.output, attention(x_BSD, where), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(weight_BHSS.sum(-1), torch.ones(weight_BHSS.shape[:-1]))
    assert not weight_BHSS.triu(1).any() and (not documents or not weight_BHSS[..., 6:, :6].any())


def test_a_heads_look_at_the_source_is_its_weight_there_beside_chance():
    model, (found, sample) = saying(planned()), toys()
    rows = looks(sample, look(model, sample, 10_000), 4)
    assert [(row["layer"], row["head"]) for row in rows] == [(0, 0), (0, 1), (1, 0), (1, 1)]
    heard = run(model, sample.token_BS).heard
    before = [len(one.token_N) - 3 for one in found]  # of the first answer, which alone has a source
    for row in rows:
        with torch.no_grad():
            weight_BSS = model.blocks[row["layer"]].attention.weights(*heard[row["layer"]])[:, row["head"]]
        wanted = np.mean([float(weight_BSS[number, place, 2]) for number, place in enumerate(before)])
        assert row["weight"] == pytest.approx(wanted, rel=1e-5) and row["answers"] == 12
        assert row["chance"] == pytest.approx(np.mean([1 / (place + 1) for place in before]))


def test_a_head_that_looks_at_the_source_is_above_chance_and_one_that_looks_everywhere_is_not():
    _, sample = toys(40)
    model = saying(planned())
    seen = look(model, sample, 10_000)
    chance_A = 1 / (sample.before_sourced.place_N + 1)
    both = np.stack((np.full(40, 0.9) + 0.05 * np.sin(np.arange(40)), chance_A + 0.01 * np.sin(np.arange(40))), 1)
    rows = looks(sample, seen._replace(looked=[both, None]), 2)
    assert [row["above"] for row in rows] == [True, False] and {row["layer"] for row in rows} == {0}


def test_an_attention_without_weights_says_so_and_the_rest_is_read():
    plan = planned("model.attention_pattern=[window,full]", "attention.window.tokens=5")
    found = inspected(saying(plan), untrained(plan), [toys()[1]])
    assert found["no_weights_to_read"] == [{"layer": 0, "attention": "window"}]
    assert {row["layer"] for row in found["looks"]} == {1} and len(found["lens"]) == 3


def test_a_silenced_expert_says_nothing_and_one_that_is_never_chosen_is_not_missed():
    """Against the same model with that expert's output weights at zero; the router goes on choosing."""
    model, (_, sample) = saying(planned()), toys()
    with torch.no_grad():
        model.blocks[1].feedforward.router.bias[7] = -10.0  # nobody chooses it
    before = run(model, sample.token_BS)
    with silenced(model.blocks[1].feedforward.router, 7):
        assert torch.equal(again(model, before, 1), before.last_BSW)
    with silenced(model.blocks[1].feedforward.router, 2):
        without = again(model, before, 1)
    assert not torch.equal(without, before.last_BSW) and torch.equal(again(model, before, 1), before.last_BSW)
    with torch.no_grad():
        model.blocks[1].feedforward.down[2] = 0.0
    torch.testing.assert_close(without, run(model, sample.token_BS).last_BSW)


def test_what_each_expert_is_worth_is_the_change_of_the_models_own_loss():
    model, (_, sample) = saying(planned()), toys()
    with torch.no_grad():
        model.blocks[0].feedforward.router.bias[5] = -10.0
    seen = look(model, sample, 10_000)
    rows = ablation(model, [sample], to_silence(model, [seen]))
    assert [(row["layer"], row["expert"]) for row in rows] == [(layer, expert) for layer in range(2) for expert in range(8)]
    by_expert = {(row["layer"], row["expert"]): row for row in rows}
    unused = by_expert[0, 5]
    assert unused["nats"] == 0.0 and unused["interval"] == [0.0, 0.0] and not unused["above"]
    others = [row["nats"] for row in rows if row["layer"] == 0 and row["expert"] != 5]
    assert unused["control"][0] == pytest.approx(np.mean(others), rel=1e-6)
    with torch.no_grad():
        model.blocks[0].feedforward.down[3] = 0.0
    changed = look(model, sample, 10_000).nats_DA[-1].mean() - seen.nats_DA[-1].mean()
    assert by_expert[0, 3]["nats"] == pytest.approx(changed, abs=1e-5) and changed != 0


def test_where_experts_are_too_many_those_that_are_chosen_most_are_silenced(monkeypatch):
    monkeypatch.setattr("harness.evaluate.inspect.ablation.MOST_SILENCED", 6)
    model, (_, sample) = saying(planned()), toys()
    seen = look(model, sample, 10_000)
    wanted = to_silence(model, [seen])
    for place, layer in enumerate(wanted):
        count_E = np.bincount(seen.chosen_LBSK[place].ravel(), minlength=8)
        assert len(wanted[layer]) == 3 and count_E[wanted[layer]].min() >= np.delete(count_E, wanted[layer]).max()


def test_a_model_whose_streams_are_rewired_to_hold_a_latent_is_found_to_hold_it_from_that_depth_on():
    """The state is the parity of the number of odd ids so far: no id tells it. The second block is made to write it."""
    draws, found = np.random.default_rng(7), []
    for _ in range(60):
        ids = draws.integers(200, size=16)
        made = instance(ids.tolist(), [15], 1)
        made.latent_N[:] = np.cumsum(ids % 2) % 2
        found.append(made)
    sample, plan = of_instances("parity", ("even", "odd"), found), planned()
    model = saying(plan)
    direction_D = torch.randn(32, generator=torch.Generator().manual_seed(2)) * 8
    state_BS = torch.from_numpy(sample.latent_BS)

    def write(_, given, said):
        return (said[0] + state_BS[..., None] * direction_D, *said[1:])

    handle = model.blocks[0].register_forward_hook(write)
    rows = inspected(model, untrained(plan), [sample])["probes"]
    handle.remove()
    assert [row["above"] for row in rows] == [False, True, True]
    assert rows[1]["accuracy"] > 0.95 and rows[0]["accuracy"] < 0.75


def test_the_page_and_the_tables_have_every_question_and_no_name_moves_the_cursor(tmp_path):
    plan, (_, sample) = planned("model.attention_pattern=[full,window]", "attention.window.tokens=5"), toys(40)
    model = saying(plan)
    whose = {"lane": "lane\x1b[1A", "seed": 1, "plan_hash": "0123abcd" * 8}
    found = {"run": whose, "against": whose, **inspected(model, untrained(plan), [sample, sample._replace(name="$b$")], model)}
    text = as_text(found)
    assert "lane\\x1b[1A, seed 1" in text and all(c.isprintable() or c == "\n" for c in text)
    assert "layer 1: window has no weights to read" in text and "of the other run" in text
    routing = text[text.index("Routing:") : text.index("Which expert")].splitlines()
    assert [tuple(line.split()[:2]) for line in routing[2:12:2]] == [
        ("all", "tasks"),
        ("all", "tasks"),
        ("all", "tasks"),
        ("$b$", "latent"),
        ("toy", "latent"),
    ]
    assert draw_inspect(found, tmp_path / "page.png").stat().st_size > 10_000


def test_a_dense_run_has_no_experts_to_ask_about_and_says_so():
    plan = planned(lane=micro.DENSE)
    found = inspected(saying(plan), untrained(plan), [toys()[1]])
    assert found["routing"] is found["ablation"] is found["choices"] is None and found["why_no_routing"] == DENSE
    assert len(found["lens"]) == len(found["probes"]) == 3


def test_an_untrained_model_has_the_runs_first_weights_and_outputs_that_are_not_zero():
    plan = planned("seed=3")
    blank, built = untrained(plan), build_model(plan, "full")
    initialize(built, plan.init, 3)
    assert torch.equal(blank.embedding, built.embedding) and torch.equal(
        blank.blocks[1].attention.query, built.blocks[1].attention.query
    )
    assert plan.init.zero_output and not built.blocks[0].feedforward.down.any() and blank.blocks[0].feedforward.down.any()


def test_numbers_that_are_not_finite_are_a_clear_error():
    plan, (_, sample) = planned(), toys()
    model = saying(plan)
    with torch.no_grad():
        model.blocks[1].attention.output[0, 0] = float("nan")
    with pytest.raises(UserError, match="not finite"):
        inspected(model, untrained(plan), [sample])


def of_copy(plan, *, length=4, gap=4):
    plan.data.tasks, plan.task.copy.length, plan.task.copy.gap = ["copy"], length, gap
    return plan


def test_a_sample_is_of_instances_that_no_training_asks_and_always_the_same(monkeypatch):
    drawn: list[Instance] = []
    of = samples_module.of_instances
    monkeypatch.setattr(
        samples_module, "of_instances", lambda name, states, found: drawn.extend(found) or of(name, states, found)
    )
    (one,), (other,) = (samples_of(of_copy(planned()), 16, {}) for _ in range(2))
    assert all(is_test(each.question) for each in drawn) and {each.difficulty for each in drawn} == {1, 2, 3, 4}
    assert one.name == "copy" and one.states == () and all(np.array_equal(a, b) for a, b in zip(one[2:], other[2:]))
    row_A, place_A = one.before_answers
    assert len(row_A) == sum(each.difficulty for each in drawn[:16]) and np.array_equal(one.before_sourced, one.before_answers)
    source_A = one.source_BS[row_A, place_A + 1]
    assert np.array_equal(one.token_BS[row_A, place_A + 1], one.token_BS[row_A, source_A])  # a copy of it
    assert (place_A + 1 < one.length_B[row_A]).all()


def test_instances_longer_than_the_models_sequences_are_refused():
    with pytest.raises(UserError, match="copy has .* tokens, the model's sequences have 32"):
        samples_of(of_copy(planned(), length=8, gap=24), 16, {})


def test_a_text_is_asked_in_windows_of_its_val_whose_states_are_classes_of_tokens(monkeypatch):
    text = np.frombuffer(b"Ab 1,\n\xff" * 40, np.uint8)
    monkeypatch.setattr(samples_module, "load_val", lambda wanted: Val(text, None, ""))
    (sample,) = samples_of(planned(), 16, {})
    assert sample.states == CLASSES and sample.token_BS.shape == (16, 32) and (sample.length_B == 32).all()
    classes = {"A": "letter", "b": "letter", " ": "space", "1": "digit", ",": "punctuation", "\n": "space", "\xff": "other"}
    for token, state in zip(sample.token_BS.ravel(), sample.latent_BS.ravel()):
        assert CLASSES[state] == classes[chr(token)]
    assert np.array_equal(sample.token_BS[0], text[:32]) and np.array_equal(sample.token_BS[-1], text[-32:])
    assert len(sample.before_answers.row_N) == 16 * 31 and (sample.source_BS == NONE).all()


@pytest.mark.parametrize(
    "text, state",
    [(" the", "letter"), ("\n\n", "space"), (" 42", "digit"), ("...", "punctuation"), ("", "other"), ("\ufffd", "other")],
)
def test_a_token_is_of_the_class_of_its_first_character_that_is_no_blank(text, state):
    assert CLASSES[token_class(text)] == state
