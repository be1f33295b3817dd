"""Patches of Patroni, one module each; `pins` refuses sources that they were not written for."""
