"""The revision of the arithmetic: raised by every change after which the same plan and seed give other bits.

It is part of the hardware class, so that nothing is ranked, timed or compared bit by bit across two revisions.

    1  the first
    2  the weights of experts are drawn expert by expert, not a stack at a time
    3  attention, the expert MLP and Muon's step on a CPU sum in other orders; Muon leaves a matrix without gradient where it is
"""

REVISION = 3
WORD = "revision "


def revision_of(hardware_class: str) -> int:
    """The revision that a record's hardware class is of; the first one was not written down."""
    last = hardware_class.rpartition(", ")[2]
    return int(last.removeprefix(WORD)) if last.startswith(WORD) and last.removeprefix(WORD).isdecimal() else 1


def without_revision(hardware_class: str) -> str:
    """The machine and its software alone."""
    machine, comma, last = hardware_class.rpartition(", ")
    return machine if comma and last.startswith(WORD) else hardware_class


def speed_class(hardware_class: str, ranks: int) -> str:
    """What must match for seconds to compare: the hardware class and the number of ranks, which it names already where bits
    depend on it."""
    machine, said = without_revision(hardware_class), f"{ranks} ranks"
    if ranks == 1 or said in machine.split(", "):
        return hardware_class
    return f"{machine}, {said}{hardware_class[len(machine) :]}"


def told(hardware_class: str) -> str:
    """A hardware class as people read it: with a word about records of an earlier revision."""
    revision = revision_of(hardware_class)
    return (
        hardware_class if revision == REVISION else f"{hardware_class} (revision {revision} of the arithmetic, now {REVISION})"
    )
