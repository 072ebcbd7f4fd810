"""Run, repeat over seeds, ablate, compare: `erc-graph experiment METHOD`."""
