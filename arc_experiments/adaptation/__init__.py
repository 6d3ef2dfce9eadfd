"""Test-time fine-tuning: a model adapted to a task's own demonstrations, which then answers it; task after task.

validation tasks without their test outputs ──units──> queue ──worker: adapt, answer, restore──> a file a unit
"""
