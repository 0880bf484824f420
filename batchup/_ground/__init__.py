"""What all other parts of the package use: arguments, batches, indices, labels, randomness, progress."""
