"""HTTP for clients of etcd and Patroni: connections, TLS, limits."""
