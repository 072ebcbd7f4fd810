"""Prediction of emotions for new and live conversations, and explanation of single predictions."""
