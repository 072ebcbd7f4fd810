"""Pictures, tables and pages, drawn from given results."""
