"""Corpora, utterances, speakers, labels, features, splits and file formats. Knows nothing of graphs or models."""
