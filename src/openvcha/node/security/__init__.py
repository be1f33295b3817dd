"""Certificates, and rotating what lets a node in."""
