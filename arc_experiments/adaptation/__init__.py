"""Test-time fine-tuning: adapt a model to a task's own demonstrations, then let it answer that task; task
after task.

validation tasks without test outputs -> task groups -> work queue -> adapt, answer, restore -> a file per
group
"""
