"""A client of the API, for any server: what the command line and the lab use."""
