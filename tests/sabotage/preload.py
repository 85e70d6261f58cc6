"""Imported once by the server that runs are forked from: everything slow, and nothing that starts a thread."""

from harness.train.determinism import keep_freed_memory, set_environment

set_environment()
keep_freed_memory()

import harness.data.prepare  # noqa: E402, F401
import harness.evaluate.public  # noqa: E402, F401
import harness.launch.sinks  # noqa: E402, F401
import harness.launch.starting_plan  # noqa: E402, F401
import harness.train.alike  # noqa: E402, F401
import harness.train.run  # noqa: E402, F401
import harness.verbs.probe  # noqa: E402, F401
import harness.verbs.speedrun  # noqa: E402, F401
from harness.plan.compose import compose  # noqa: E402
from harness.train.determinism import set_torch  # noqa: E402

set_torch()  # strict determinism loads torch's compiler, the slowest import of all
for lane in ("tiny-moe-16e", "tiny-dense"):  # Hydra, and the files of all recipes: most of a second for the first plan
    compose([f"lane={lane}"])
