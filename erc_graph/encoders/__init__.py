"""Encoders: modules that map features and sequences to node states, independent of methods and training."""
