"""The public address of the data: the forwarder, its thread, and the limit of clients."""
