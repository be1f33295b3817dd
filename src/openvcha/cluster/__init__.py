"""The three nodes as one thing: what is configured, what is observed, and what follows from it."""
