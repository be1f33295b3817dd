"""A node's etcd member, whom the node asks for the store, and by which account."""
