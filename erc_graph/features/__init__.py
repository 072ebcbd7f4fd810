"""Raw text, audio and video to feature arrays. Knows nothing of graphs or models."""
