"""What all rooms need from the machine: files, accounts, the network, /proc, repeated work."""
