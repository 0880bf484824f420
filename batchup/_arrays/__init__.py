"""Reading rows of arrays of all kinds: in memory, in memory-mapped files, and in storage."""
