"""Processes: starting, supervising, detecting hangs, stopping."""
