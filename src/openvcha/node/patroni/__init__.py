"""Patroni on a node: its configuration, its launcher and our patches."""
