"""Starts runs: in this process, in child processes, in another checkout."""
