"""A comparison of arms: planning, training, statistics and the page."""
