"""The supervisor: the main program of a node."""
