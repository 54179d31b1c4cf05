"""Benchmarks: one file for each question, peers measured in the same run."""
