"""Training (`make starter`) and evaluation of the starter model, and the tables of its model card (docs/starter.md)."""
