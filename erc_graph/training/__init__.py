"""Training and evaluating: one loop for all methods, losses, metrics, checkpoints, significance, tuning."""
