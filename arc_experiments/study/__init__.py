"""Studies: a question, the arms that answer it, and the rule that decides, written down before the runs."""
