"""Message passing over a graph, one operator per file. Knows nothing of papers or training."""
