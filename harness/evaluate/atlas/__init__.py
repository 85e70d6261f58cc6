"""Where a router sends the tokens of a fixed text, checkpoint by checkpoint, and what of that moves: a question a file.

`probe.py` has the text, `seen.py` what one checkpoint does with it, `receipt.py` the arrays that are kept of all. Of these
`settled.py` asks one checkpoint, `drift.py` two of one run, `matched.py` two runs. Every figure has an interval over windows of
the probe and, where it says that two things go together, a control; those of one table hold together at 95%
(`harness/evaluate/inspect/intervals.py`).

Letters: B windows, S tokens of the longest; N tokens of all windows; L MoE layers, E experts, K top-k, C = K + 1 candidates (E
where there are no more), D width.
"""
