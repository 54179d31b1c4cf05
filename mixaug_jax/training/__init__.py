"""The train step, what it needs, and what it leaves behind."""
