"""Sockets, and the addresses at their ends."""
