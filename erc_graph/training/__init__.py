"""Training and judging: one loop for all methods, losses, metrics, checkpoints, significance, tuning."""
