"""Comparisons: planning, running, statistics, figures and the page."""
