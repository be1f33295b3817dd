"""How a node runs Patroni."""
