"""What travels inside the package: the small model, and the tasks that it is judged by."""
