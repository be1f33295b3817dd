"""How a node runs Patroni, and the changes to it."""
