"""Compare finished runs: groups, differences, tables, charts and a page."""
