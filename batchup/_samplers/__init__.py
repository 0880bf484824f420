"""The samplers behind `batchup.sampling`."""
