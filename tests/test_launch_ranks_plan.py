"""`make plan RANKS=N`: what it prints, which way it advises, and what it says where nothing fits."""

import re
import shlex

import micro
import pytest
from memory_on_ranks import allocated

from harness.__main__ import main
from harness.errors import UserError
from harness.launch.ways import QUICKER, SHARE, Way, advised, faster, ways, would_fit
from harness.plan.compose import compose
from harness.train import machine
from harness.train.named_gpus import GPUS

BIG = "moe-4096e"


@pytest.fixture(autouse=True)
def no_look_at_this_machine(monkeypatch):
    """It is said of other machines, on any."""
    monkeypatch.setattr(machine, "detect", None)
    monkeypatch.setattr("torch.cuda.is_available", None)


@pytest.fixture
def said(capsys):
    """said(*words): the exit status, what was printed, and the refusal."""

    def run(*words):
        status = main(["plan", *words])
        return (status, *capsys.readouterr())

    return run


def found(lane, ranks, *words, gpus=tuple(GPUS)):
    return ways(compose([f"lane={lane}", *words]).plan, ranks, [GPUS[name] for name in gpus])


def cells(printed, name):
    """The figures of the row that begins so."""
    (line,) = [line for line in printed.splitlines() if line.strip().startswith(name)]
    return re.findall(r"(?<= )(?:[\d,.]+|-)(?=  |$)", line)


# What is printed


def test_a_user_of_sixteen_gpus_sees_both_ways_and_how_to_start_the_one_that_fits(said):
    status, out, _ = said(f"lane={BIG}", "ranks=16")
    assert status == 0
    assert cells(out, "experts: weights, fp32") == ["173.95", "10.87"]
    assert cells(out, "experts: copies, bf16") == ["86.97", "5.44"]
    assert "32 micro-batches of 16,384 tokens, 2 a rank" in out and "(99.6%)" in out
    assert "114,688 rows on average and 1,835,008 at worst" in out.replace("\n ", "")
    assert "nothing measured" in out and "predicted, ms a step" in out and "Assumed: " in out
    for gpu in GPUS.values():
        assert f"{gpu.title}: " in out
    assert "Advised: parallel.ep=16. " in out
    *_, command = out.splitlines()
    assert "torchrun --nnodes 2" in command and command.endswith(f"lane={BIG} parallel.ep=16 parallel.sums=units")


@pytest.mark.parametrize(
    "words", [[f"lane={BIG}", "ranks=16"], ["lane=moe-256e", "ranks=8", "gpu=h200-141"], ["lane=dense", "ranks=8"]]
)
def test_it_is_readable_in_a_hundred_columns(words, said):
    _, out, _ = said(*words)
    *lines, command = out.splitlines()
    assert max(map(len, lines)) <= 100 and "speedrun" in command


def test_rows_of_memory_add_up(said):
    _, out, _ = said("lane=moe-256e", "ranks=8", "gpu=h100-80")
    table = out.split("memory, GB")[1].split("In a layer")[0].splitlines()[1:]
    parts, sums, part = {}, {}, ""
    for line in filter(None, table):
        figures = [
            0.0 if cell == "-" else float(cell.replace(",", "")) for cell in re.findall(r"(?<=  )(?:[\d,.]+|-)(?=  |$)", line)
        ]
        if line.startswith("  = sum"):
            sums[part] = figures
        elif line.startswith("at its fullest"):
            whole = figures
        elif figures:
            parts.setdefault(part, []).append(figures)
        else:
            part = line
    added = {name: [sum(column) for column in zip(*rows)] for name, rows in parts.items()}
    for name, total in sums.items():
        assert total == pytest.approx(added[name], abs=0.05)
    always, passes, update = added.values()
    assert whole == pytest.approx([a + max(p, u) for a, p, u in zip(always, passes, update)], abs=0.1)


def test_nothing_is_allocated_and_no_machine_is_looked_at(said):
    assert allocated(lambda: said(f"lane={BIG}", "ranks=16"))[0] < 1 << 24  # but for tables of rotations, which are made here


def test_the_command_that_is_advised_composes(said):
    for words in ((f"lane={BIG}", "ranks=16"), ("lane=moe-256e", "ranks=8", "unranked=true", "optim.clip_norm=1.0")):
        _, out, _ = said(*words)
        command = shlex.split(out.splitlines()[-1])
        plan = compose(command[command.index("speedrun") + 1 :]).plan
        assert plan.parallel.ep == int(words[1].removeprefix("ranks="))


# Micro-batches


def test_a_micro_batch_that_ranks_cannot_share_is_replaced_and_that_is_said(said):
    _, out, _ = said(f"lane={BIG}", "ranks=64")
    assert "8,192 is taken, since 64 ranks cannot share a step in micro-batches of 16,384" in out
    assert "parallel.micro_batch_tokens=8192" in out.splitlines()[-1]


def test_without_one_the_largest_that_fits_is_taken(said):
    _, out, _ = said(f"lane={BIG}", "ranks=16", "parallel.micro_batch_tokens=0", "gpu=h200-141")
    assert "32,768 is taken for 0: the largest that 16 ranks can share and that fits" in out
    tight = found(BIG, 16, "parallel.micro_batch_tokens=0", gpus=["h100-80"])
    unit = tight.spread.plan.parallel.micro_batch_tokens
    larger = Way.of(tight.spread.plan, 16, micro_batch_tokens=2 * unit) if unit < 32768 else None
    assert tight.fits and (larger is None or not larger.fits(tight.gpus))


# What is advised


def test_where_all_experts_on_a_rank_do_not_fit_they_are_spread():
    way, why = advised(found(BIG, 16))
    assert way.ep == 16 and "more than H100 SXM, H200 SXM or B200 SXM has" in why and "GB" in why


def test_where_experts_are_most_of_a_rank_they_are_spread_and_where_they_are_not_they_stay():
    much, little = found("moe-256e", 8), found("moe-64e", 8)
    assert much.without.experts > SHARE * much.without.memory.total and advised(much)[0] is much.spread
    assert "over half" in advised(much)[1]
    assert little.without.experts < SHARE * little.without.memory.total and advised(little)[0] is little.without
    assert "not over half" in advised(little)[1]


def test_a_way_that_is_predicted_slower_is_said_to_be():
    """Over two nodes, whose network rows are too much for."""
    over_nodes = found("moe-256e", 16, gpus=["b200-180"])
    slower = over_nodes.spread.step_s(over_nodes.counts, GPUS["b200-180"]) > over_nodes.without.step_s(
        over_nodes.counts, GPUS["b200-180"]
    )
    assert slower == ("predicted slower" in advised(over_nodes)[1])


def test_a_micro_batch_that_is_predicted_quicker_is_named_and_fits():
    small = found(BIG, 16, "parallel.micro_batch_tokens=2048", gpus=["h100-80"])
    unit = int(re.search(r"parallel.micro_batch_tokens=(\d+)", faster(small, small.spread))[1])
    named = found(BIG, 16, f"parallel.micro_batch_tokens={unit}", gpus=["h100-80"])
    assert unit > 2048 and named.spread.fits(named.gpus)
    now, then = (it.spread.step_s(it.counts, GPUS["h100-80"]) for it in (small, named))
    assert then < QUICKER * now and faster(named, named.spread) == ""


@pytest.mark.parametrize(
    "lane, ranks, says",
    [
        ("dense", 8, "There are no experts."),
        ("moe-64e", 1, "One rank has all experts."),
        ("moe-64e", 128, "64 experts cannot be spread equally over 128 ranks"),
        ("moe-256e-nvfp4", 8, "precision.format=nvfp4 on a GPU"),
    ],
)
def test_what_cannot_be_spread_is_told_of_all_experts_on_a_rank_alone(lane, ranks, says, said):
    status, out, _ = said(f"lane={lane}", f"ranks={ranks}")
    assert status == 0 and says in " ".join(out.split()) and "Advised: parallel.ep=1." in out
    assert found(lane, ranks).spread is None


# What is refused


def test_what_does_not_fit_is_refused_with_what_would(said):
    status, out, refusal = said(f"lane={BIG}", "ranks=8", "gpu=h100-80")
    assert status == 2 and "does not fit H100 SXM of 80 GB" in refusal and "Advised" not in out
    assert "experts: weights, fp32" in out and "predicted, ms a step" not in out
    assert "what would: ranks=16 (parallel.ep=16: " in refusal and "H200 SXM of 141 GB (parallel.ep=8: " in refusal


@pytest.mark.parametrize(
    "lane, ranks, gpu, words",
    [
        (BIG, 8, "h100-80", ()),
        (BIG, 1, "b200-180", ()),
        ("xl-moe-8e", 32, "b200-180", ("optim.matrices=adamw",)),
        ("moe-256e", 1, "h100-80", ("parallel.micro_batch_tokens=65536",)),
        ("dense", 4, "h100-80", ("parallel.micro_batch_tokens=131072",)),
    ],
)
def test_everything_that_is_said_to_fit_does(lane, ranks, gpu, words, said):
    one = found(lane, ranks, *words, gpus=[gpu])
    assert not one.fits
    changes = would_fit(one)
    assert changes
    for change in changes:
        head = change.split(" (parallel.ep=")[0]
        if "=" not in head:
            (name,) = [name for name, it in GPUS.items() if head.startswith(it.title)]
            assert said(f"lane={lane}", f"ranks={ranks}", f"gpu={name}", *words)[0] == 0
            continue
        turned = [word for word in head.split()]
        own = [] if any(word.startswith("ranks=") for word in turned) else [f"ranks={ranks}"]
        assert said(f"lane={lane}", f"gpu={gpu}", *words, *own, *turned)[0] == 0, change


@pytest.mark.parametrize(
    "words, says",
    [
        ([f"lane={BIG}", "ranks=6"], "256 sequences a step cannot be cut for 6 ranks"),
        ([f"lane={BIG}", "ranks=16", "parallel.ep=8", "parallel.sums=units"], "parallel.ep=8 with 16 ranks"),
        ([f"lane={BIG}", "ranks=16", "parallel.ep=16"], "set parallel.sums=units"),
        ([f"lane={BIG}", "ranks=0"], "ranks must be a whole number of at least 1"),
        ([f"lane={BIG}", "ranks=16", "gpu=h100"], "did you mean h100-80?"),
    ],
)
def test_words_that_do_not_go_together_are_refused(words, says, said):
    status, _, refusal = said(*words)
    assert status == 2 and says in refusal


def test_a_way_is_checked_before_anything_is_counted(monkeypatch):
    plan = compose(micro.MOE).plan
    monkeypatch.setattr("harness.launch.ways.memory", None)
    with pytest.raises(UserError, match="whose bits would depend"):
        Way.of(plan, 2, ep=2)
