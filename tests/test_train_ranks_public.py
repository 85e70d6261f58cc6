"""Public sets at the end of a run of several processes: each example once, the bits of one process, nobody left waiting."""

import json

import micro
import processes
import pytest
from test_evaluate_wikitext import BYTES, TEXT, Digest
from test_train_tokens import COMMON, MOE

from harness.errors import UserError
from harness.evaluate import public, rolling, wikitext

WORDS = [*MOE, *COMMON, "lane.gpu=false", "precision.format=fp32", "model.sequence_length=64", "batch.tokens_per_step=128"]
WORDS += ["parallel.micro_batch_tokens=64", "budget.tokens=512", "validation.steps=[]"]
UNITS = ["parallel.sums=units", "validation.steps=[2]", "validation.batch_tokens=64"]
SPREAD = [*UNITS, "parallel.ep=2"]
PROGRAM = (micro.ROOT / "tests" / "ranked_scoring.py").read_text()


def ended_well(done):
    assert [rank.returncode for rank in done] == [0] * len(done), "".join(rank.stderr[-3000:] for rank in done)


@pytest.mark.process
def test_two_processes_score_every_example_once_with_the_bits_of_one(tmp_path):
    ended_well(processes.run_ranks(2, PROGRAM, str(tmp_path), "train", "untouched", *WORDS))
    run = micro.the_folder(tmp_path / "runs")
    written = json.loads((run / "evaluations.json").read_text())
    assert sum(map(len, written["core"]["right"].values())) == written["core"]["examples"] == 33
    assert len(written["wikitext"]["pages"]) == 2 and micro.record(run).metrics.val_bpb > 0
    ended_well([processes.run(PROGRAM, str(tmp_path), "again", str(run))])
    assert json.loads((tmp_path / "again.json").read_text()) == written


def scores(folder):
    """All that a run scored, and the points of its curve."""
    run = micro.the_folder(folder / "runs")
    metrics, points = micro.record(run).metrics, micro.rows(run, "validation")
    found = {name: getattr(metrics, name) for name in ("val_bpb", "val_loss", "slice_bpb_shuffled_routing", "scored_bytes")}
    found |= {"curve": [(point["step"], point["slice_bpb"], point["slice_loss"]) for point in points]}
    (final,) = micro.rows(run, "final")
    found |= {key: final[key] for key in ("nats", "targets", "counts")} | {"health": micro.record(run).router_health}
    return found | {"sets": json.loads((run / "evaluations.json").read_text())}


@pytest.fixture(name="alone", scope="module")
def alone_fixture(tmp_path_factory):
    """What a run of one process scores."""
    folder = tmp_path_factory.mktemp("alone")
    ended_well([processes.run(PROGRAM, str(folder), "train", "untouched", *WORDS, *UNITS)])
    return scores(folder)


@pytest.mark.slow
@pytest.mark.process
@pytest.mark.parametrize("words", [UNITS, SPREAD], ids=["every rank has all experts", "experts are spread"])
def test_a_run_of_two_processes_records_the_very_scores_of_one(words, tmp_path, alone):
    ended_well(processes.run_ranks(2, PROGRAM, str(tmp_path), "train", "untouched", *WORDS, *words))
    assert scores(tmp_path) == alone and [step for step, *_ in alone["curve"]] == [2, 4]


@pytest.mark.slow
@pytest.mark.process
@pytest.mark.parametrize("words, where", [(UNITS, "val"), (SPREAD, "public")])
def test_a_signal_that_one_rank_hears_while_all_score_stops_all_and_the_same_command_goes_on(words, where, tmp_path, alone):
    done = processes.run_ranks(2, PROGRAM, str(tmp_path), "train", where, *WORDS, *words, timeout=60)
    assert [rank.returncode for rank in done] == [143, 143], "".join(rank.stderr[-3000:] for rank in done)
    assert "stopped with a checkpoint in" in done[0].stdout and not any("Traceback" in rank.stderr for rank in done)
    assert "stopping before the next forward pass" in done[1].stdout
    run = micro.the_folder(tmp_path / "runs")
    assert micro.checkpointed_steps(run) == [4] and (run / "record.json").exists() == (where == "public")
    ended_well(processes.run_ranks(2, PROGRAM, str(tmp_path), "train", "untouched", *WORDS, *words))
    assert scores(tmp_path) == alone


@pytest.mark.process
@pytest.mark.parametrize("words", [[], SPREAD], ids=["every rank has all experts", "experts are spread"])
def test_a_set_that_one_rank_cannot_score_costs_the_rank_and_neither_the_record_nor_the_others_time(words, tmp_path):
    ended_well(processes.run_ranks(2, PROGRAM, str(tmp_path), "train", "broken", *WORDS, *words))
    record = micro.record(micro.the_folder(tmp_path / "runs"))
    assert record.evaluations["core"].content() == {"failed": "a file of rank 1 was edited"}
    assert record.evaluations["wikitext"].nats > 0
    assert any("core could not be scored" in reason for reason in record.unranked_reasons)


class Ranks:
    """One of several ranks; all are asked one after the other, the first one last, and leave their values with it."""

    def __init__(self, rank, box):
        self.rank, self.box, self.world = rank, box, 3

    def gather(self, value):
        self.box[self.rank] = value
        return [self.box[rank] for rank in range(3)] if self.rank == 0 else []


@pytest.mark.parametrize("failing", [0, 1, 2])
def test_a_failure_of_any_rank_is_told_by_the_first_after_all_have_answered(failing):
    def work(rank):
        if rank == failing:
            raise UserError(f"rank {rank} cannot", "mend it")
        return rank

    box = {}
    assert [public.together(Ranks(rank, box), lambda r=rank: work(r), None) for rank in (2, 1)] == [[], []]
    with pytest.raises(UserError, match=f"rank {failing} cannot") as caught:
        public.together(Ranks(0, box), lambda: work(0), None)
    assert caught.value.remedy == "mend it" and len(box) == 3


@pytest.mark.parametrize("world", [1, 2, 3, 50])
def test_wikitexts_windows_are_each_scored_by_one_rank_and_add_up_to_the_bits_of_one(world):
    asked = []

    class Counting(Digest):
        def score(self, input_BS, target_BS, *rest):
            asked.append(input_BS.shape[0])
            return super().score(input_BS, target_BS, *rest)

    alone = wikitext.merge([wikitext.share(Counting(8), BYTES, TEXT, 16)], 8)
    windows, asked[:] = sum(asked), []
    shares = [wikitext.share(Counting(8), BYTES, TEXT, 16, rank=rank, world=world) for rank in range(world)]
    assert wikitext.merge(shares, 8).nats_P.tolist() == alone.nats_P.tolist() and sum(asked) == windows > 6


def test_a_share_that_is_missing_or_there_twice_is_no_sum():
    shares = [rolling.share(Digest(4), [[1] * 30], 256, 8, rank=rank, world=2) for rank in range(2)]
    for wrong in ([shares[1]], [*shares, shares[0]]):
        with pytest.raises(AssertionError, match="missing, or there twice"):
            rolling.total(wrong, 1)
