"""Raw text, sound and pictures to feature arrays. Knows nothing of graphs or models."""
