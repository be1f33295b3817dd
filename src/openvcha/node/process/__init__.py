"""Processes: starting, supervising, detecting hangs, ending."""
