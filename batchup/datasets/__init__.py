"""Standard data sets."""
