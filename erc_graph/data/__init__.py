"""Corpora, utterances, speakers, labels, features, splits and file formats; independent of graphs and models."""
