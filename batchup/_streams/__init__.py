"""Streams: the iterators that users hold, and the gathering of results."""
