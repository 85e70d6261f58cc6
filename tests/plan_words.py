"""Plans with keys changed in memory: what composing would give, a hundred times faster."""

import copy

import yaml


def with_words(plan, words):
    """A copy of a composed plan with each `section.key=value` set, unchecked."""
    out = copy.deepcopy(plan)
    for word in words:
        key, _, text = word.partition("=")
        *sections, leaf = key.split(".")
        node = out
        for section in sections:
            node = getattr(node, section)
        kind = type(getattr(node, leaf))
        setattr(node, leaf, kind(yaml.safe_load(text)) if kind in (list, bool) else kind(text))
    return out
