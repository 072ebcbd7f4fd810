"""Labelling new conversations."""
