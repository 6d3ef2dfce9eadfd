"""Which tasks train, which are held out, and which of one set stand in another."""
