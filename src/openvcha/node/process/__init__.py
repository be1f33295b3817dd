"""Processes: starting one, keeping it running, noticing that it hangs, ending it."""
