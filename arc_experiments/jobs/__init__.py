"""The verbs: one module each, a straight line from top to bottom, `main(run, console)`.

A new one is a module here, a file in `conf/job` and an entry in `config/job_kinds.py`.
"""
