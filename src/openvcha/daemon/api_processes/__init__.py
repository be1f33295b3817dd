"""The processes of a data node's API, and the orders by which the service controls them."""
