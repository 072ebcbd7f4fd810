"""Asking a trained pipeline: explaining one prediction."""
