"""Several tasks' adapters trained in one batch."""
