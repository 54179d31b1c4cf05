"""What all commands share: flags, exit codes, JAX's settings, processes."""
