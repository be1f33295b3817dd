"""The infrastructure that the nodes run on: its interface, and one package per kind."""
