"""From frozen folders to running workers: one, or a sweep's, on this machine or on a cluster."""
