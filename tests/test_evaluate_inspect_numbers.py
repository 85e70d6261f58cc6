"""The arithmetic of `inspect`: probes, CKA, mutual information and intervals, against what was planted or counted by hand."""

from itertools import permutations

import numpy as np
import pytest

from harness.data.draws import Draws
from harness.data.instances import NONE, instance
from harness.evaluate.inspect import intervals, probes, routes
from harness.evaluate.inspect.cka import cka
from harness.evaluate.inspect.sample import of_instances
from harness.evaluate.inspect.seen import Seen

IDS, STATES, WIDTH = 40, 5, 24


def random(seed=0):
    return np.random.default_rng(seed)


def sample_of(latent, instances=80, tokens=20, seed=1):
    """Random ids; `latent(ids)` makes the states of an instance."""
    draws = random(seed)
    found = []
    for _ in range(instances):
        made = instance(draws.integers(IDS, size=tokens).tolist(), [tokens - 1], 1)
        made.latent_N[:] = latent(made.token_N)
        found.append(made)
    return of_instances("toy", tuple("abcde"), found)


def seen_of(*streams):
    none = np.zeros((0, 0))
    return Seen(np.stack(streams), none, none, none, [], np.zeros((0, 0, 0, 0), np.int16))


def planted(label_N, seed, noise=0.3):
    """Streams in which labels lie linearly, each in a direction of its own, under noise."""
    draws = random(seed)
    directions = draws.standard_normal((int(label_N.max()) + 1, WIDTH))
    return (directions[label_N] + noise * draws.standard_normal((len(label_N), WIDTH))).astype(np.float32)


def noise(tokens, seed):
    return random(seed).standard_normal((tokens, WIDTH)).astype(np.float32)


def free(ids):
    """States that have nothing to do with the ids."""
    return random(int(ids.astype(int) @ np.arange(len(ids)))).integers(STATES, size=len(ids))


def holds(interval, value):
    return interval[-2] <= value <= interval[-1]


def test_a_probe_finds_a_latent_that_lies_linearly_and_none_that_is_not_there():
    sample = sample_of(free)
    latent_N = sample.probed.of(sample.latent_BS)
    seen = seen_of(noise(len(latent_N), 2), planted(latent_N, 3))
    blank = seen_of(noise(len(latent_N), 4), noise(len(latent_N), 5))
    nothing, there = probes.probes(sample, seen, blank, 2)
    assert there["accuracy"] > 0.95 and there["above"] and there["depth"] == 1 and there["states"] == STATES
    assert not nothing["above"] and holds(nothing["interval"], 1 / STATES)
    for row in (nothing, there):
        for control in ("untrained", "shuffled", "token"):
            assert holds(row[control], 1 / STATES), (row["depth"], control, row[control])
    assert there["selectivity"] == there["accuracy"] - there["control"][0] > 0.5


def test_what_the_id_of_a_token_tells_is_not_called_there():
    """The state is a function of the id, and the stream has the ids: as the probe finds it, so does whoever looks at ids."""
    sample = sample_of(lambda ids: ids % STATES)
    ids_N = sample.probed.of(sample.token_BS)
    (row,) = probes.probes(sample, seen_of(planted(ids_N, 6, 0.01)), seen_of(noise(len(ids_N), 7)), 1)
    assert row["accuracy"] > 0.95 and row["token"][0] == 1.0 and row["untrained"][0] < 0.4 and not row["above"]
    assert row["control"][0] > 0.9 and abs(row["selectivity"]) < 0.1  # it learns any label of an id as well


def test_what_first_weights_show_as_well_is_not_called_there():
    sample = sample_of(free)
    latent_N = sample.probed.of(sample.latent_BS)
    (row,) = probes.probes(sample, seen_of(planted(latent_N, 3)), seen_of(planted(latent_N, 4)), 1)
    assert row["accuracy"] > 0.95 and row["untrained"][0] > 0.95 and not row["above"]


def test_a_probe_is_asked_about_instances_that_it_was_not_fitted_to():
    """Streams that have nothing but a number of their instance: within an instance the state is one, and learned by heart."""
    sample = sample_of(lambda ids: np.full(len(ids), int(ids[0]) % STATES))
    row_N = sample.probed.row_N
    one_hot = np.eye(len(sample.token_BS), dtype=np.float32)[row_N]
    (row,) = probes.probes(sample, seen_of(one_hot), seen_of(one_hot), 1)
    assert row["accuracy"] < 0.5 and not row["above"]


def test_a_latent_of_one_state_has_no_probe_nor_information():
    sample = sample_of(lambda ids: np.zeros(len(ids), int))
    nothing = noise(len(sample.probed.row_N), 1)
    assert probes.probes(sample, seen_of(nothing), seen_of(nothing), 1) == []
    expert_BSK = np.zeros((*sample.token_BS.shape, 1), int)
    assert routes.told(expert_BSK, sample.latent_BS, 4, Draws(0, "test"), 1) is None


def test_the_state_of_an_id_is_the_most_frequent_one_of_the_fit():
    said = probes.by_token(np.array([1, 1, 1, 2, 2, 3]), np.array([4, 4, 0, 1, 3, 4]), np.array([1, 2, 3, 9]))
    assert said.tolist() == [4, 1, 4, 4]


def test_a_channel_that_says_nothing_does_no_harm_to_a_probe():
    label_N = random(1).integers(3, size=300)
    x_NW = planted(label_N, 2)
    x_NW[:, 0], x_NW[:, 1] = 7.0, 0.0
    assert (probes.probe(x_NW[:200], label_N[:200], x_NW[200:]) == label_N[200:]).mean() > 0.95


@pytest.mark.parametrize("figure", [intervals.mean, intervals.share])
def test_intervals_hold_as_often_as_they_say_where_tokens_of_an_instance_agree(figure):
    """2,000 samples of 60 instances of 5 to 30 tokens, whose shares differ by instance: were tokens counted as independent,
    half of the intervals would miss."""
    draws, repeats = random(3), 2000
    count_B = draws.integers(5, 31, size=(60, repeats))
    right_B = draws.binomial(count_B, draws.beta(1.2, 2.8, size=count_B.shape))  # 0.3 in the mean
    found = figure(right_B, count_B)
    assert 0.92 < ((found.low <= 0.3) & (0.3 <= found.high)).mean() < 0.98
    together = figure(right_B, count_B, 100)
    assert ((together.low <= 0.3) & (0.3 <= together.high)).mean() > 0.99


def test_a_share_of_all_or_none_has_an_interval_of_its_instances():
    found = intervals.share(np.array([[6, 0]] * 20), np.array([[6, 6]] * 20))
    assert found.low[0] == pytest.approx(20 / (20 + 1.96**2), abs=1e-4) and found.high[0] == pytest.approx(1)
    assert found.high[1] == pytest.approx(1 - found.low[0]) and found.low[1] == pytest.approx(0)


def test_a_hundred_intervals_together_reach_further_than_one():
    assert intervals.quantile(1) == pytest.approx(1.95996, abs=1e-5)
    assert intervals.quantile(20) == pytest.approx(3.02334, abs=1e-5)  # 0.125% in each tail


def by_enumeration(k_NN, l_NN):
    """HSIC as a U-statistic over every four different tokens (Song et al. 2012, equation 4)."""
    terms = [
        k_NN[i, j] * (l_NN[i, j] + l_NN[q, r] - 2 * l_NN[i, q]) for i, j, q, r in permutations(range(len(k_NN)), 4)
    ]  # fmt: skip
    return np.mean(terms)


def test_cka_is_the_u_statistic_over_fours_of_tokens():
    x, y = random(1).standard_normal((7, 3)), random(2).standard_normal((7, 5)) + 2
    k, l_ = x @ x.T, y @ y.T
    wanted = by_enumeration(k, l_) / (by_enumeration(k, k) * by_enumeration(l_, l_)) ** 0.5
    assert cka([x], [y])[0][0] == pytest.approx(wanted, rel=1e-9)


def test_cka_of_a_stream_with_itself_is_one_also_rotated_scaled_and_moved():
    x = random(1).standard_normal((200, 16)) * np.arange(1, 17)
    rotation = np.linalg.qr(random(2).standard_normal((16, 16)))[0]
    assert cka([x], [x, 3 * x @ rotation + 5])[0] == pytest.approx([1, 1])
    assert cka([x], [x[:, :4] + 0.0])[0][0] < 0.9


def test_cka_of_what_has_nothing_in_common_is_nothing():
    """Where the plain one would say W / (N + W) = 0.2."""
    x, y = random(1).standard_normal((400, 100)), random(2).standard_normal((400, 100))
    assert abs(cka([x], [y])[0][0]) < 0.02


def test_cka_of_a_stream_that_does_not_vary_is_not_known():
    x = random(1).standard_normal((20, 4))
    assert cka([x, np.ones((20, 4))], [x])[1] == [None]


def test_information_is_that_of_a_table_counted_by_hand():
    """0.75 ln 1.5 - 0.25 ln 2 of three in four that agree; ln 2 of all; 0 of none."""
    table = np.array([[[3, 1], [1, 3]], [[2, 0], [0, 2]], [[1, 1], [2, 2]]])
    assert routes.information(table) == pytest.approx([0.75 * np.log(1.5) - 0.25 * np.log(2), np.log(2), 0.0])


def test_the_table_counts_every_chosen_expert_of_every_token_that_has_a_label():
    expert_BSK = np.array([[[0, 1], [1, 2], [0, 2]], [[2, 1], [0, 1], [0, 1]]])
    label_BS = np.array([[0, 1, NONE], [1, 1, NONE]])
    found = routes.tables(expert_BSK, label_BS, 3, 2, np.array([0, 1]))
    assert found.tolist() == [[[1, 0], [1, 1], [0, 1]], [[0, 1], [0, 2], [0, 1]]]


def routed(label_BS, kept, seed):
    """An expert of 8 a token: that of its label in a share `kept` of tokens, else any."""
    draws = random(seed)
    own = draws.random(label_BS.shape) < kept
    return np.where(own, label_BS, draws.integers(8, size=label_BS.shape))[..., None]


def test_routing_by_a_latent_is_told_apart_from_its_control_and_routing_at_random_is_not():
    label_BS = random(1).integers(STATES, size=(100, 20))
    by_state = routes.told(routed(label_BS, 0.5, 2), label_BS, 8, Draws(0, "test"), 10)
    at_random = routes.told(routed(label_BS, 0.0, 3), label_BS, 8, Draws(0, "test"), 10)
    assert by_state["above"] and by_state["beyond"] > 0.2 and by_state["labels"] == STATES
    assert by_state["most"] == pytest.approx(np.log(STATES), abs=0.01)
    assert not at_random["above"] and abs(at_random["beyond"]) < 0.01
    assert at_random["information"] > 0.003  # counting few tokens is told of by the control
    assert holds(at_random["control"], at_random["information"])


def test_routing_that_has_no_more_in_common_with_a_latent_than_that_both_are_of_an_instance_is_not_told_apart():
    """One state and one expert an instance, drawn apart: labels shuffled token by token would have made this 0.4 nats of
    information."""
    label_BS = np.repeat(random(1).integers(STATES, size=(60, 1)), 20, 1)
    found = routes.told(np.repeat(random(2).integers(8, size=(60, 1)), 20, 1)[..., None], label_BS, 8, Draws(0, "test"), 1)
    assert found["information"] > 0.15 and not found["above"]


def test_routing_by_place_is_no_routing_by_a_latent_that_goes_with_the_place():
    place_BS = np.broadcast_to(np.arange(20) % STATES, (60, 20))
    assert not routes.told(routed(place_BS, 0.9, 2), place_BS.copy(), 8, Draws(0, "test"), 1)["above"]


def test_labels_of_others_stand_where_labels_stood_in_their_order_and_come_from_instances_that_have_some():
    label_BS = np.array([[NONE, 1, NONE, 2], [3, NONE, NONE, NONE], [NONE] * 4, [NONE, 4, 5, 6]])
    seen = {tuple(map(tuple, routes.of_others(label_BS, Draws(seed, "test")).tolist())) for seed in range(40)}
    n = NONE
    of_first = {(n, 1, n, 2), (n, 3, n, 3), (n, 4, n, 5)}
    of_last = {(n, 4, 5, 6), (n, 1, 2, 1), (n, 3, 3, 3)}
    assert {rows[0] for rows in seen} == of_first and {rows[3] for rows in seen} == of_last
    assert {rows[1] for rows in seen} == {(3, n, n, n), (1, n, n, n), (4, n, n, n)} and {rows[2] for rows in seen} == {(n,) * 4}
    assert len(seen) == 6  # each order of three


def test_a_latent_of_few_tokens_at_other_places_in_each_instance_has_a_control_of_as_many_tokens():
    draws = random(5)
    label_BS = np.full((200, 40), NONE)
    for row in label_BS:
        row[draws.integers(40, size=2)] = draws.integers(8)
    by_state = routes.told(routed(np.maximum(label_BS, 0), 0.9, 2), label_BS, 8, Draws(0, "test"), 10)
    at_random = routes.told(routed(np.maximum(label_BS, 0), 0.0, 3), label_BS, 8, Draws(0, "test"), 10)
    assert by_state["above"] and not at_random["above"] and abs(at_random["beyond"]) < 0.05


def test_the_expert_of_a_state_is_named_and_none_where_there_is_none():
    label_BS = random(1).integers(STATES, size=(100, 20))
    expert_BSK = np.stack(
        [random(2).permuted(np.broadcast_to(np.arange(8), (100, 20, 8)), axis=-1)[..., i] for i in (0, 1)], -1
    )
    without_BS = (label_BS == 3) & (expert_BSK != 6).all(-1)
    expert_BSK[without_BS, 0] = 6
    first, *rest = routes.choices(expert_BSK, label_BS, 8, STATES, 4)
    assert (first["expert"], first["state"], rest) == (6, 3, [])
    assert first["share"][0] == 1.0 and first["others"][2] < first["share"][1]
    assert first["others"][0] == pytest.approx(2 / 8, abs=0.03)
    assert routes.choices(routed(label_BS, 0.0, 4), label_BS, 8, STATES, 4) == []
