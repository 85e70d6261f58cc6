"""Tasks of submitit's jobs, really started: they are the ranks of one run, and a job that its time limit ends goes on to the
bits of one that nothing has touched. Slurm's commands are stand-ins (`sweeps.py`)."""

import re

import micro
import pytest
import torch
from micro import no_figures_fixture  # noqa: F401
from sweeps import DENSE, PARTS, slurm, sweep_of
from test_train_units import UNITS

TASKS = ("seed=1", "hydra.launcher.tasks_per_node=2", "hydra.launcher.timeout_min=5")
SLOW = ("SPEEDRUN_PARTS", str(PARTS))


@pytest.fixture(name="alone")
def alone_fixture(tmp_path, no_figures):
    """alone(words): the bits of that run in this one process."""

    def alone(*words, lane):
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            return micro.bits(micro.run(tmp_path / "alone", *words, "seed=1", lane=lane))
        finally:
            torch.set_num_threads(threads)

    return alone


@pytest.mark.parametrize("launcher", ["local", "slurm"])
def test_the_tasks_of_a_submitit_job_are_the_ranks_of_one_run_and_the_sweep_finds_its_record(launcher, tmp_path, alone):
    home = slurm(tmp_path)
    own = ("hydra.launcher.partition=fast",) if launcher == "slurm" else ()
    done = sweep_of(tmp_path, *DENSE, *UNITS, f"hydra/launcher=submitit_{launcher}", *TASKS, *own, home=home)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    run = micro.the_folder(tmp_path / "runs")
    record = micro.record(run)
    assert record.hardware.world_size == 2 and f"{record.metrics.val_bpb:.4f}" in done.stdout
    assert "ranks" not in record.hardware_class and ", 2 ranks, " in record.speed_class
    (sweep,) = (tmp_path / "runs").glob("sweep-*")
    assert [path.name for path in sweep.glob("job-*.json")] == ["job-00000.json"] and (sweep / ".submitit").is_dir()
    assert micro.bits(run) == alone(*UNITS, lane=DENSE)


def went_on(tmp_path) -> tuple[dict[str, str], int]:
    """Bits of the run, and how often it was taken up again."""
    run = micro.the_folder(tmp_path / "runs")
    steps = [row["step"] for row in micro.rows(run, "step")]
    assert steps == list(range(1, micro.STEPS + 1))
    return micro.bits(run), micro.record(run).resumes


def test_a_job_that_reaches_its_time_limit_goes_on_with_the_same_words_to_the_same_bits(tmp_path, alone):
    """submitit's own clock: a minute a job, told of after half of it. The training alone takes more than that."""
    limit = ("hydra/launcher=submitit_local", *TASKS[:2], "hydra.launcher.timeout_min=1", "+hydra.launcher.max_num_timeout=5")
    done = sweep_of(tmp_path, *micro.MOE, *UNITS, "model.memories=[slow]", *limit, SPEEDRUN_PARTS=str(PARTS))
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    bits, resumes = went_on(tmp_path)
    assert resumes >= 1 and bits == alone(*UNITS, lane=micro.MOE)
    (log,) = (tmp_path / "runs").glob("sweep-*/.submitit/*/*_0_log.out")
    said = log.read_text()
    assert said.count("stopped with a checkpoint in ") == said.count("resuming ") >= resumes


def test_on_slurm_the_first_task_asks_for_the_job_again_when_all_ranks_have_left_with_a_checkpoint(tmp_path, alone):
    home = slurm(tmp_path)
    (home / "limit").touch()
    words = [*micro.MOE, *UNITS, "run.log_every_steps=1", "model.memories=[slow]", "memory.slow.seconds=0.05"]
    own = ("hydra/launcher=submitit_slurm", *TASKS, "hydra.launcher.max_num_timeout=1")
    done = sweep_of(tmp_path, *words, *own, home=home, SPEEDRUN_PARTS=str(PARTS))
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert (home / "asked").read_text() == "requeue 7\n"
    bits, resumes = went_on(tmp_path)
    assert resumes == 1 and bits == alone(*UNITS, lane=micro.MOE)


def test_a_job_that_may_not_be_started_again_is_named_and_the_same_command_goes_on(tmp_path, alone):
    home = slurm(tmp_path)
    words = [*micro.MOE, *UNITS, "run.log_every_steps=1", "model.memories=[slow]", "memory.slow.seconds=0.05"]
    own = ("hydra/launcher=submitit_slurm", *TASKS)  # max_num_timeout is 0
    (home / "limit").touch()
    done = sweep_of(tmp_path, *words, *own, home=home, SPEEDRUN_PARTS=str(PARTS))
    assert done.returncode == 1 and not (home / "asked").exists(), done.stdout[-2000:] + done.stderr[-2000:]
    assert re.search(r"left exit 140 .*seed=1\n +it said: .*/7_0_log.err\n", done.stdout)
    done = sweep_of(tmp_path, *words, *own, home=home, SPEEDRUN_PARTS=str(PARTS))
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    bits, resumes = went_on(tmp_path)
    assert resumes == 1 and bits == alone(*UNITS, lane=micro.MOE)


def test_the_file_that_slurm_is_given_asks_for_what_the_words_say(tmp_path):
    home = slurm(tmp_path)
    (home / "full").touch()
    place = ("nodes=2", "tasks_per_node=8", "gpus_per_node=8", "timeout_min=240", "signal_delay_s=300", "partition=fast")
    words = [f"hydra.launcher.{word}" for word in (*place, "max_num_timeout=20")]
    words.append("++hydra.launcher.additional_parameters.mail-user=me")
    done = sweep_of(tmp_path, *DENSE, *UNITS, "hydra/launcher=submitit_slurm", "seed=1", *words, home=home)
    assert done.returncode == 2 and "no such partition" in done.stderr and "error: no job ran" in done.stderr
    script = (home / "job.sh").read_text()
    asked = dict(re.findall(r"^#SBATCH --([a-z-]+)=?(.*)$", script, re.MULTILINE))
    (sweep,) = (tmp_path / "runs").glob("sweep-*")
    logs = f"{sweep.resolve()}/.submitit/%j/%j_0_log"
    expected = {
        "nodes": "2", "ntasks-per-node": "8", "gpus-per-node": "8", "time": "240", "signal": "USR2@300", "requeue": "",
        "partition": "fast", "mail-user": "me", "open-mode": "append", "output": f"{logs}.out", "error": f"{logs}.err",
    }  # fmt: skip
    assert asked.items() >= expected.items(), asked
    (srun,) = re.findall(r"^srun .*$", script, re.MULTILINE)
    assert " --kill-on-bad-exit=1 " in srun and f" -m submitit.core._submit {sweep.resolve()}/.submitit/%j" in srun
