"""Pools of workers: they make batches, and run functions, in the background."""
