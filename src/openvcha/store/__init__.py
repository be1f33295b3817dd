"""etcd: client, keys, leases, watches, compare-and-set. Everything durable goes through here."""
