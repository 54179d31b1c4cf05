"""Statistics and pictures of predictions, activations and training images."""
