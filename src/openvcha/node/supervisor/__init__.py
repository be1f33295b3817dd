"""The program of a node."""
