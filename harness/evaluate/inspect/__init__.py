"""What a trained model does inside, asked of test instances of its tasks: a question a file, `inspected.py` has them all.

Every figure has an interval over instances, and stands beside a control. Those of one table hold together at 95%
(`intervals.py`), so that what is looked for in many places is not found by chance; `above` is true where the whole interval
lies above the control's.

Letters: B instances of a sample, one a row, S tokens of the longest; N tokens; A answers; L layers, D = L + 1 depths (0 is the
embedding, l the stream after l blocks), W width, H heads, E experts, K top-k, Z states of a latent variable.
"""
