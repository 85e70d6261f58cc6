"""Training: the machine, the loop, its clock, checkpoints, hash chain, health, and ranks."""
