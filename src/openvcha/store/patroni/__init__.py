"""Patroni's keys in the store and the reports of its REST API, as types."""
