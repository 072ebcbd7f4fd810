"""Training and evaluation: one loop for all methods, losses, metrics, checkpoints, significance, hyperparameter search."""
