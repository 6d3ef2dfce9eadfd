"""Hydra in, run.yaml out."""
