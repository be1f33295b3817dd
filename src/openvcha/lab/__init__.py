"""A whole cluster on this machine, on loopback addresses, for trials and tests."""
