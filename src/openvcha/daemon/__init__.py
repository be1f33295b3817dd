"""A data node's service: everything put together, and served while the node leads."""
