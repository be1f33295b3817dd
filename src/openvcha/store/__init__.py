"""The store, etcd: client, keys, leases, watches, compare-and-set. All durable state is in it."""
