"""Run Python programs in child processes that can do nothing but compute.

A separate, small process forks a child for each program: it imports numpy, but nothing else of this package.
"""
