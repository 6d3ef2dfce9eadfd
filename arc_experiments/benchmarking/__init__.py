"""What job=benchmark measures. Each measurement is a cell: a process with a folder and a composition of its own.

    plan(run.yaml) -> cells -> `python -m arc_experiments.benchmarking.measure <folder>` -> result.json
    results -> benchmark.json, benchmark.md, benchmark.svg

Two ways of doing one thing are measured alternately in one process, so that their ratio means something on a
machine that is busy now and then.
"""
