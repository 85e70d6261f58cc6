"""A router's receipt against the router itself, recomputed from its weights, and its figures against what was planted."""

import json

import numpy as np
import pytest
import torch
from probes import EXPERTS, LENGTH, WINDOWS, K, planned, probe
from reading import saying

from harness.data.instances import NONE
from harness.errors import UserError
from harness.evaluate.atlas import drift, matched, settled
from harness.evaluate.atlas.probe import PLACES, places_in_words
from harness.evaluate.atlas.receipt import receipt
from harness.evaluate.atlas.seen import seen
from harness.record.atlas import read_atlas, write_atlas
from harness.report.atlas.against import draw_against, said_of
from harness.report.atlas.figure import draw_atlas
from harness.report.atlas.text import as_text
from harness.verbs.atlas import compared
from kernels import Precision, moe_mlp


def rows(windows=WINDOWS):
    return np.repeat(np.arange(windows), LENGTH)


def random_sets(seed, tokens=WINDOWS * LENGTH):
    return np.random.default_rng(seed).random((tokens, EXPERTS)).argsort(1)[:, :K]


def given(model, layer, token_BS):
    """What the router of a layer is given."""
    from harness.model.where import Where

    found, router = [], model.blocks[layer].feedforward.router
    handle = router.register_forward_pre_hook(lambda _, given: found.append(given[0]))
    with torch.no_grad():
        model(Where(torch.from_numpy(token_BS)), torch.zeros(token_BS.shape, dtype=torch.int64))
    handle.remove()
    return found[0]


@pytest.mark.parametrize("router", ["sigmoid_topk", "softmax_topk"])
def test_sets_scores_and_the_next_expert_are_those_of_the_weights(router):
    model, text = saying(planned(f"model.router={router}", "balance=none")), probe()
    for place, layer in enumerate(model.moe_layers):
        own = model.blocks[layer].feedforward.router
        if router == "sigmoid_topk":
            own.bias.copy_(torch.linspace(-0.1, 0.1, EXPERTS))
        one = seen(model, text)[place]
        logit_NE = given(model, layer, text.token_BS) @ own.weight.detach()
        score_NE = torch.sigmoid(logit_NE) + own.bias if router == "sigmoid_topk" else torch.softmax(logit_NE, 1)
        score_NC, expert_NC = score_NE.sort(dim=1, descending=True, stable=True)
        assert torch.equal(one.expert_NC, expert_NC[:, : K + 1])
        assert torch.allclose(one.score_NC, score_NC[:, : K + 1], atol=1e-6)


def test_norms_are_of_what_the_expert_mlp_adds():
    model, text = saying(planned()), probe()
    one, part = seen(model, text)[1], model.blocks[1].feedforward
    x_ND = given(model, 1, text.token_BS)
    with torch.no_grad():
        routing = part.router(x_ND, torch.from_numpy(text.token_N))
        for place in range(K):
            alone_NK = torch.where(torch.arange(K) == place, routing.weight_TK, 0.0)
            y_ND = moe_mlp(
                x_ND, part.up, part.down, routing.expert_TK, alone_NK, activation=part.activation, backend="reference",
                precision=Precision.of("full"),
            )  # fmt: skip
            assert torch.allclose(one.said_NK[:, place], y_ND.norm(dim=1), rtol=1e-4, atol=1e-6)


def test_a_channel_is_what_one_of_three_would_have_moved():
    plan, text = planned(), probe()
    token_N = torch.from_numpy(text.token_N)
    for what in ("router", "biases", "inputs"):
        model = saying(plan)
        before = seen(model, text)
        with torch.no_grad():
            if what == "router":
                model.blocks[0].feedforward.router.weight.mul_(torch.linspace(0.3, 2, EXPERTS))
            elif what == "biases":
                model.blocks[0].feedforward.router.bias.copy_(torch.linspace(-0.2, 0.2, EXPERTS))
            else:
                model.embedding.mul_(torch.linspace(0.2, 2, 32))
        after = seen(model, text)
        found = drift.channels(before[0], after[0], token_N, text.row_N, 1)
        assert found[what] == found["all"] and found["all"][0] > 0.05
        assert all(found[other][0] == 0 for other in ("router", "biases", "inputs") if other != what)
        moved = 1 - drift.kept(before[0].expert_NC[:, :K].numpy(), after[0].expert_NC[:, :K].numpy()) / K
        assert found["all"][0] == pytest.approx(moved.mean())


def test_a_hash_router_has_sets_and_neither_scores_nor_a_next_expert():
    model, text = saying(planned("model.router=hash", "balance=none")), probe()
    arrays, figures = receipt([model, model, model], [0, 8, 16], text)
    assert arrays["000016/0/expert"].shape == (WINDOWS * LENGTH, K) and "000016/0/score" not in arrays
    assert all(row["margin"] is None for row in figures["settled"]) and not figures["behind"]
    assert all(row["channels"] is None and row["boundary"] is None and row["jaccard"][0] == 1 for row in figures["drift"])
    beyond = [row for row in figures["told"] if row["beyond_ids"]]
    assert beyond and all(row["information"] == pytest.approx(0, abs=1e-9) and not row["above"] for row in beyond)


def test_sets_are_compared_as_sets():
    one, other = np.array([[0, 1], [0, 1], [0, 1]]), np.array([[1, 0], [1, 2], [2, 3]])
    assert drift.kept(one, other).tolist() == [2, 1, 0] and drift.jaccard(one, other).tolist() == [1, 1 / 3, 0]
    same = drift.turnover(random_sets(1), random_sets(1), rows(), 1)
    assert same["jaccard"] == [1, 1, 1] and same["control"][2] < 0.3


def test_what_moves_at_the_smallest_margins_to_the_next_expert_is_seen_to():
    model, text = saying(planned()), probe()
    before = seen(model, text)[0]
    margin_N = (before.score_NC[:, K - 1] - before.score_NC[:, K]).numpy()
    low_N = np.argsort(margin_N)[: len(margin_N) // 20]
    swapped = before.expert_NC.clone()
    swapped[low_N, K - 1] = before.expert_NC[low_N, K]
    found = drift.at_the_boundary(before, before._replace(expert_NC=swapped), text.row_N, K, EXPERTS, 1)
    assert found["near"] == [1, 1, 1] and found["next"] == [1, 1, 1] and found["next_by_chance"] == 1 / 6
    still = drift.at_the_boundary(before, before, text.row_N, K, EXPERTS, 1)
    assert still["near"] is None and still["next"] is None  # nothing moved


def test_margins_and_their_ties():
    score = np.tile(np.array([[0.9, 0.5, 0.25]], np.float32), (WINDOWS * LENGTH, 1))
    score[::2, 2] = 0.5
    found = settled.margins(score, rows(), K, 1)
    assert found["mean"] == pytest.approx([0.125] * 3) and found["ties"] == len(score) // 2 and found["quantiles"][3] == 0.25
    assert settled.margins(score[:, :2], rows(), K, 1) is None


def test_experts_in_use_are_counted_by_simpsons_index():
    assert settled.effective(np.full(8, 5)) == 8 and settled.effective(np.array([9, 0, 0])) == 1
    assert settled.effective(np.array([1, 2, 3])) == pytest.approx(3 / (1 + np.var([1, 2, 3]) / 4))
    found = settled.occupancy(random_sets(1) % 4, rows(), EXPERTS, 1)
    assert found["unused"] == 4 and found["effective"][1] < 4 <= found["effective"][2] + 0.05


def test_a_pair_that_stands_together_is_found_and_random_sets_have_none():
    draws, tokens, row_N = np.random.default_rng(4), 4 * WINDOWS * LENGTH, rows(4 * WINDOWS)
    sets, planted_N = random_sets(2, tokens), draws.random(tokens) < 0.4
    assert settled.beside(sets, row_N, EXPERTS, 1) == []
    sets[planted_N] = [6, 1]
    (found,) = settled.beside(sets, row_N, EXPERTS, 1)
    assert found["pair"] == [1, 6] and found["share"][0] > 0.4 and found["control"][2] < found["share"][1]
    candidates = draws.random((tokens, EXPERTS)).argsort(1)[:, : K + 1]
    assert settled.behind(candidates, row_N, EXPERTS, K, 1) == []
    candidates[planted_N] = [0, 3, 5]
    assert [row["pair"] for row in settled.behind(candidates, row_N, EXPERTS, K, 1)] == [[3, 5]]


def test_places_in_words():
    text = "no it's 42"
    found = places_in_words(np.array([list(text.encode())]), lambda token: chr(token))[0]
    first, second = PLACES.index("first"), PLACES.index("second")
    # nobody knows how far the word has come that a window begins in
    assert found.tolist() == [NONE, NONE, NONE, first, second, NONE, first, NONE, first, second]
    pieces = {0: "rest", 1: " to", 2: "day", 3: "?", 4: " a"}
    assert places_in_words(np.array([[0, 1, 2, 2, 2, 2, 3, 4]]), pieces.get)[0].tolist() == [NONE, 0, 1, 2, 3, 3, NONE, 0]


def test_renamed_experts_are_found_and_count_as_the_same():
    one, name_E = random_sets(1), np.random.default_rng(0).permutation(EXPERTS)
    other = np.argsort(name_E)[one]  # the other run's expert f is this run's name_E[f]
    token_N = np.random.default_rng(2).integers(0, 5, len(one))
    assert matched.assignment(one, other, EXPERTS).tolist() == name_E.tolist()
    found = matched.shared(one, other, token_N, rows(), EXPERTS, 1)
    assert found["matched"] == [1, 1, 1] and found["above"] and found["numbered"][0] < 0.5
    pairs = matched.who_is_who(one, other, EXPERTS)
    assert all(name_E[theirs] == mine and both == 1 for mine, theirs, both in pairs)


def test_what_two_unrelated_routers_share_is_not_above_chance():
    token_N = np.random.default_rng(2).integers(0, 5, WINDOWS * LENGTH)
    found = matched.shared(random_sets(1), random_sets(2), token_N, rows(), EXPERTS, 1)
    assert not found["above"] and found["matched"][0] == pytest.approx(K / EXPERTS, abs=0.06)


def test_what_ids_alone_decide_is_no_more_than_ids_tell():
    """Two hash routers of one table agree everywhere, and say nothing that the token's id does not."""
    table_VK, token_N = random_sets(7, 5), np.random.default_rng(2).integers(0, 5, WINDOWS * LENGTH)
    found = matched.shared(table_VK[token_N], table_VK[token_N], token_N, rows(), EXPERTS, 1)
    assert found["matched"][0] == 1 and found["ids"][0] == 1 and not found["above"]


def test_a_token_whose_id_is_there_once_has_no_other_of_its_id():
    other_N, has_N = matched.another_of_its_id(np.array([5, 7, 5, 9, 5]))
    assert has_N.tolist() == [True, False, True, False, True] and other_N.tolist() == [4, 1, 0, 3, 2]


def index_of(plan, text, steps, figures, **run):
    whose = {"lane": "tiny-moe-16e", "seed": 1, "plan_hash": "0" * 16, "content_sha256": None} | run
    return {
        "schema_version": 1, "run": whose,
        "model": {
            "moe_layers": plan.model.moe_layers, "experts": EXPERTS, "top_k": K, "router": plan.model.router, "vocabulary": 256,
        },
        "probe": {"of": "$tiny$", "windows": WINDOWS, "tokens": len(text.row_N), "sha256": text.sha256},
        "taken": [{"step": step, "sha256": None} for step in steps], **figures,
    }  # fmt: skip


@pytest.fixture(scope="module")
def taken(tmp_path_factory):
    """Two receipts of models that drift, of one text. Read only."""
    plan, text, folders = planned(), probe(), []
    for seed in (1, 2):
        models = [saying(plan, seed + 10 * at) for at in range(4)]
        arrays, figures = receipt(models, [0, 8, 16, 32], text)
        folders.append(tmp_path_factory.mktemp("atlas"))
        write_atlas(folders[-1], index_of(plan, text, [0, 8, 16, 32], figures, seed=seed), arrays)
    return folders


def test_what_is_kept_is_read_back_and_consistent(taken):
    found = read_atlas(taken[0])
    for layer in found.index.model.moe_layers:
        sets = found.of(32, layer, "expert")[:, :K].astype(int)
        assert found.of(32, layer, "load").tolist() == np.bincount(sets.ravel(), minlength=EXPERTS).tolist()
        together = found.of(32, layer, "together")
        assert np.array_equal(np.diag(together), found.of(32, layer, "load")) and together.sum() == K * K * len(sets)
        margin = found.of(32, layer, "score")[:, K - 1] - found.of(32, layer, "score")[:, K]
        (row,) = [row for row in found.index.settled if (row.step, row.layer) == (32, layer)]
        assert row.margin.mean[0] == pytest.approx(margin.mean(), rel=1e-5) and margin.min() >= 0
    assert {(row.step, row.to) for row in found.index.drift} == {(8, 16), (16, 32), (8, 32)}  # never from the untrained model


def test_the_page_and_the_words_are_made_of_the_receipt_alone(taken, tmp_path):
    one, other = map(read_atlas, taken)
    said = as_text(one.index)
    assert draw_atlas(one, tmp_path / "a.png").stat().st_size > 20_000 and draw_atlas(one, tmp_path / "b.png")
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    assert "$tiny$" in said and said.count("  above its control") == sum(row.above for row in one.index.told)
    both = compared(one, other)
    assert {(row["step"], row["to"]) for row in both["rows"]} == {(0, 0), (8, 8), (16, 16), (32, 32)}
    assert "untrained" in said_of(both) and draw_against(both, tmp_path / "c.png").stat().st_size > 10_000


@pytest.mark.parametrize("damage", ["figure", "array", "missing"])
def test_a_receipt_that_was_edited_is_named(taken, tmp_path, damage):
    for name in ("atlas.json", "receipt.safetensors"):
        (tmp_path / name).write_bytes((taken[0] / name).read_bytes())
    if damage == "figure":
        content = json.loads((tmp_path / "atlas.json").read_text())
        content["settled"][0]["unused"] += 1
        (tmp_path / "atlas.json").write_text(json.dumps(content))
    elif damage == "array":
        packed = bytearray((tmp_path / "receipt.safetensors").read_bytes())
        packed[-1] ^= 1
        (tmp_path / "receipt.safetensors").write_bytes(packed)
    else:
        (tmp_path / "receipt.safetensors").unlink()
    with pytest.raises(UserError) as refused:
        read_atlas(tmp_path)
    expected = {"figure": "atlas.json was changed", "array": "receipt.safetensors was changed", "missing": "is missing"}
    assert expected[damage] in refused.value.problem and "make atlas" in refused.value.remedy


def test_a_model_whose_numbers_are_not_finite_is_refused():
    model = saying(planned())
    with torch.no_grad():
        model.embedding.fill_(torch.nan)
    with pytest.raises(UserError, match="step 8 are not finite"):
        receipt([saying(planned()), model], [0, 8], probe())
