"""The sources, in the order in which they build on each other; use `batchup.data_source`."""
