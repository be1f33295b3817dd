"""What one node sees of the cluster: asked of etcd and Patroni, reported, or silent."""
