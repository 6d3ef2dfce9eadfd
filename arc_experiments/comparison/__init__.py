"""Many runs, one answer: finished run folders become groups, their means and differences, tables and a page.

In: run folders. Out: a `Comparison`, and its renderings. `python -m arc_experiments.compare` is its command.
"""
