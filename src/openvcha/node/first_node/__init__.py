"""The first node of a cluster: what it consists of, and making it on this machine."""
