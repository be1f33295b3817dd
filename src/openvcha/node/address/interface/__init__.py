"""The public address on an interface: packets, the kernel's lifetime, and who may hold it."""
