"""The cluster of three nodes: its configuration, its observed state, and what follows from both."""
