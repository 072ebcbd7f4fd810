"""How the starter model of the package is made (`make starter`), measured and described; docs/starter.md is its card."""
