"""What job=benchmark measures (see `plan.py`), each measurement in a process of its own (`measure.py`)."""
