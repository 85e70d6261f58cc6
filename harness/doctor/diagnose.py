"""All diagnoses of a run, in the order of their weight, and a verdict by layer."""

from dataclasses import dataclass
from pathlib import Path

from harness.doctor import learning, load
from harness.doctor.finding import Finding
from harness.doctor.patient import Patient, Span, read_patient
from harness.errors import UserError

# Most severe first. What a run was stopped for by its loss comes before anything that its router does.
OF_THE_LOAD = (load.dominant_expert, load.dead_experts, load.collapse)
OF_THE_LEARNING = (learning.router_gradient, learning.balancing_fights)


@dataclass(frozen=True)
class Diagnosis:
    run: Patient
    findings: list[Finding]
    remarks: list[str]  # what was not looked at, and why

    @property
    def healthy(self) -> bool:
        return not self.findings

    @property
    def judged(self) -> bool:
        """False while a learned router has not been through one health window."""
        return bool(self.run.health_windows) or not self.run.learns_routing

    @property
    def now(self) -> Span | None:
        return self.run.health_windows[-1] if self.run.health_windows else None

    def names_of(self, layer: int) -> list[str]:
        """The diagnoses that a layer has."""
        return [finding.name for finding in self.findings if layer in finding.layers]


def diagnose(run: Patient, control: Patient | None = None) -> Diagnosis:
    """Everything that is found in a run, beside its control where there is one.

    Raises:
        UserError: the control is no hash-router twin of the run.
    """
    if control is not None:
        _check_control(run, control)
    findings: list[Finding] = []
    if run.learns_routing and run.health_windows:
        findings = [finding for look in OF_THE_LOAD for finding in look(run)]
    if run.stop and (run.stop.reason != "collapse" or not findings):
        findings = learning.stopped_early(run) + findings
    if run.learns_routing and run.health_windows:
        findings += [finding for look in (*OF_THE_LEARNING, load.hot_expert) for finding in look(run)]
    findings += learning.update_ratio(run)
    if run.learns_routing:
        findings += learning.no_better_than_hash(run, control)
    return Diagnosis(run, findings, _remarks(run, control))


def troubles(folder: Path) -> list[str]:
    """The names of what is found in a run folder, in words, each once; none of a healthy run."""
    return list(dict.fromkeys(finding.name.replace("_", " ") for finding in diagnose(read_patient(folder)).findings))


def _check_control(run: Patient, control: Patient) -> None:
    if not run.learns_routing:
        raise UserError(f"{run.folder} does not learn its routing: a control has nothing to show", "leave out --control")
    if control.settings["model.router"] != "hash" or not control.experts:
        raise UserError(
            f"the control {control.folder} is no hash-router run", "make one: model.router=hash balance=none unranked=true"
        )
    if different := learning.unlike(run, control):
        raise UserError(
            f"the control {control.folder} differs in more than its router:\n    " + "\n    ".join(different),
            "train it with the same words and model.router=hash balance=none unranked=true",
        )


def _remarks(run: Patient, control: Patient | None) -> list[str]:
    if not run.experts:
        return ["a dense run: there is no router"]
    remarks = []
    if not run.learns_routing:
        remarks.append("a hash router learns nothing: its load is what the frequencies of tokens make it, and is not judged")
    if run.learns_routing and len(run.health_windows) < 2:
        need = f"{run.health_steps} steps"
        early = f"a hot expert shows over two windows of {need}" if run.health_windows else f"the load is judged over {need}"
        remarks.append(f"too early for all of it: {early}")
    if run.record is None and run.learns_routing:
        remarks.append("routing shuffled among tokens is scored at the end of a run: not known yet")
    if control is not None and learning.common_point(run, control) is None:
        remarks.append(f"{control.folder} and this run were never validated at the same tokens: the control says nothing")
    return remarks


def folder_of(word: str) -> Path:
    """A run folder, also where its record was named."""
    path = Path(word)
    return path.parent if path.name in ("record.json", "metrics.jsonl", "metrics.jsonl.xz", "stopped.json") else path
