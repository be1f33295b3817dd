"""Nodes that leave: their votes, their VMs, and whatever access they had."""
