"""Shared by all commands: flags, exit codes, JAX's settings, processes."""
