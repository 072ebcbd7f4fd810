"""Labelling new conversations, explaining one prediction. Knows nothing of training or experiments."""
