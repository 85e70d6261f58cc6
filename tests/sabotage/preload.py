"""Imported once by the server that runs are forked from: everything slow, and nothing that starts a thread."""

from harness.train.determinism import keep_freed_memory, set_environment

set_environment()
keep_freed_memory()

import harness.train.run  # noqa: E402, F401
import harness.verbs.probe  # noqa: E402, F401
import harness.verbs.speedrun  # noqa: E402, F401
from harness.train.determinism import set_torch  # noqa: E402

set_torch()  # strict determinism loads torch's compiler, the slowest import of all
