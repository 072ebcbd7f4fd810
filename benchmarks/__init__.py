"""Recorded results, and the tables made of them."""
