"""The commands of `python -m batchup`."""
