"""What a node keeps on its own disk, for when the cluster is unavailable."""
