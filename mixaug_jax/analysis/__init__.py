"""Arrays in, numbers or pictures out: what the runs have to say."""
