"""The store as etcd has it: its JSON gateway, accounts and watches."""
