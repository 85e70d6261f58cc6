"""Where a whole training step goes, part by part: what `make profile` measures, and the floor that FLOPs and bytes allow.

| file | what is in it |
|---|---|
| `parts` | the parts, and the one table of operator names that says which part an operator's time belongs to |
| `events` | torch.profiler's events, each with its own time and its part |
| `scopes` | marks around what no operator's name tells: optimizers, head, the stages of an expert MLP |
| `floors` | FLOPs and bytes of each part |
| `measured` | two contestants in turns, with the profiler and without |
| `text` | the table |
"""
