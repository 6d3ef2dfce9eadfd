"""Scoring: candidates and solutions become every metric; candidates become a submission, and a submission candidates."""
