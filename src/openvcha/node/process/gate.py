"""The gate of a part that loads at once and begins its work later: a pipe on its standard input."""

GO = b"g"
"""The word that opens the gate. The launchers read it too: keep this module light."""
