"""A node's etcd member, and its endpoints and account for the store."""
