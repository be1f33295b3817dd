"""The commands of `vcha lab`."""
