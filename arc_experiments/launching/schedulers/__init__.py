"""From frozen folders to the queue of a cluster.

Another scheduler needs no code if it has a command that submits: a template and a file like
`conf/launch/pbs.yaml` do. Otherwise it is a folder beside `slurm` and `command`, entered in
`known.SCHEDULERS`: how it submits, and what its jobs run.
"""
