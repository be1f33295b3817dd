"""Certificates, and the rotation of a node's credentials."""
