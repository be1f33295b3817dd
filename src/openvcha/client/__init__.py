"""A client of the API of any server, for the command line and the lab."""
