"""Search and learn: write programs, relabel those that failed, train on them, write better ones."""
