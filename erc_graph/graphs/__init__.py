"""Conversation graphs: rules for edges (recipes), edges, edge weights, graphs as `HeteroData` of PyG, networkx, DGL and GraphML."""

from erc_graph.graphs.build import build_from_states, build_graph
from erc_graph.graphs.convert import to_dgl, to_networkx
from erc_graph.graphs.dataset import graph_dataset
from erc_graph.graphs.graphml import write_graphml
from erc_graph.graphs.recipe import EdgeRule, Example, GraphRecipe, list_recipes, load_recipe

__all__ = [
    "EdgeRule",
    "Example",
    "GraphRecipe",
    "build_from_states",
    "build_graph",
    "graph_dataset",
    "list_recipes",
    "load_recipe",
    "to_dgl",
    "to_networkx",
    "write_graphml",
]
