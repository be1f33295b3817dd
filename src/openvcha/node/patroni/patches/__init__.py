"""Patches of Patroni, one module for each."""
