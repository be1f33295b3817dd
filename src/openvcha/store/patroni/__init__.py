"""What Patroni keeps in the store, and what its REST API says: typed."""
