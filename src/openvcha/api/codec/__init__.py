"""Conversion between Python values and JSON: one strict decoder and encoder for all protocols."""
