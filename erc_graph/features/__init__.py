"""Feature extraction from raw text, audio and video; independent of graphs and models."""
