"""Training and evaluation: one training loop for all methods, losses, metrics, checkpoints, significance tests, hyperparameter search."""
