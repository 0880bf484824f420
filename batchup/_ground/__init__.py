"""What every room stands on: arguments, batches, indices, labels, randomness, progress."""
