"""What we change in Patroni, one module for each change."""
