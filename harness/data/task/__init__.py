"""The tasks: a file each, which ends with `PART`; `harness/data/instances.py` says what a task is asked."""
