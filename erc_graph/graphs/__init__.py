"""Conversation graphs: recipes, edges, weights, `HeteroData`, conversion to networkx and DGL, drawing."""

from erc_graph.graphs.build import build_from_states, build_graph
from erc_graph.graphs.convert import to_dgl, to_networkx
from erc_graph.graphs.draw import draw_graph
from erc_graph.graphs.graphml import write_graphml
from erc_graph.graphs.interactive import GraphView, show, write_page
from erc_graph.graphs.recipe import EdgeRule, Example, GraphRecipe, list_recipes, load_recipe

__all__ = [
    "EdgeRule",
    "Example",
    "GraphRecipe",
    "GraphView",
    "build_from_states",
    "build_graph",
    "draw_graph",
    "list_recipes",
    "load_recipe",
    "show",
    "to_dgl",
    "to_networkx",
    "write_graphml",
    "write_page",
]
