"""The commands of `vcha node`."""
