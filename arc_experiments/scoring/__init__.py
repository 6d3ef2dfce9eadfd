"""Scoring: candidates and solutions become metrics, and submissions; the uncertainty of both."""
