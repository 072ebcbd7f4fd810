"""Labelling new conversations, live ones too, and explaining one prediction. Knows nothing of training or experiments."""
