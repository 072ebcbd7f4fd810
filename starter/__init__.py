"""Training (`make starter`), evaluation and description of the starter model of the package; docs/starter.md is its model card."""
