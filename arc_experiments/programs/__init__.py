"""Programs as answers: the languages they are written in, and the sandbox that runs them."""
