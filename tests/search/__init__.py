"""A random search over everything that a source of batches can be made of, against a model of its own.

`python -m tests.search --examples 100000` runs it. Every example follows from one integer: a
source, how it is gone through, and what is checked of it. The model is written from the
documents: batches are made one by one, from lists, and compared to the last bit.
"""
