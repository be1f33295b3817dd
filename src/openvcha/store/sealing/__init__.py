"""Sealing: records that only data nodes can write, and the store that verifies them."""
