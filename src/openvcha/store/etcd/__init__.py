"""etcd as the store: its JSON gateway, accounts and watches."""
