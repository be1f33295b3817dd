"""The store, etcd: client, keys, leases, watches, compare-and-set. It holds all durable state."""
