"""Feature extraction from text, audio and video. This subpackage is independent of graphs and models."""
