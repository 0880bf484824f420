"""The splits behind `batchup.splits`."""
