"""Run, repeat over seeds, ablate, compare: python -m erc_graph.experiments.<paper>."""
