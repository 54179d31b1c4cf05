"""The parts of training: step, state, metrics, checkpoints, records."""
