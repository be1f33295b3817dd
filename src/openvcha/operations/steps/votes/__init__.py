"""The votes of nodes: taken and given without losing the quorum."""
