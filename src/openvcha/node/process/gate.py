"""The gate of a part that loads at once but starts work later: a pipe on standard input."""

GO = b"g"
"""The byte that opens the gate. The launchers import this too: keep the module light."""
