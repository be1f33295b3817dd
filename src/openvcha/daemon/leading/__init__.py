"""Who leads, for how long that is certain, and what a node does while it leads."""
