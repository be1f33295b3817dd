"""The records on a node's own disk, for when the cluster is unavailable."""
