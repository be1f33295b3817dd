"""The public address of the data: forwarding, its thread, and how many clients it takes."""
