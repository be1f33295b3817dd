"""A whole cluster on this machine, on loopback addresses, for trying and for testing."""
