"""What the HTML pages of runs and of comparisons share."""
