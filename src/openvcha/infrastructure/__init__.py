"""The infrastructure of the nodes: its interface, and one package for each kind."""
