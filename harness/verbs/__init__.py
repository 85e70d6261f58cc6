"""One file a verb: SUMMARY, a docstring that is its --help, and main(arguments) -> exit status.

torch takes seconds to import: a verb imports what needs it inside `main`, so that help and mistakes answer at once.
"""
