"""What travels inside the package: the small models, and the tasks that they are judged by."""
