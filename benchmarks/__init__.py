"""Benchmarks, their recorded results, and the tables of the documentation."""
