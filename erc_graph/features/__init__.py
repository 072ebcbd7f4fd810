"""Feature extraction from text, audio and video. It is independent of graphs and models."""
