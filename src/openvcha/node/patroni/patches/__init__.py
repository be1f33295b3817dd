"""Changes to Patroni, one module for each."""
