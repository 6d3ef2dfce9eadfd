"""SLURM: a script for sbatch, and the job that it becomes."""
