"""Plans: which samples are in which batch, as arithmetic on indices."""
