"""Sequences to node states. Knows nothing of papers or training."""
