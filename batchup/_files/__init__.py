"""Files that are verified, downloaded once, and never half-written."""
