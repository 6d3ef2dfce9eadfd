"""All runs at a glance: every run under some folders in one table, on the terminal and as a page."""
