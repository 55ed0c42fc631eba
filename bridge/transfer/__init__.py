"""Moves persons between files, terminals and the store, beside a bridge that may be running.

What is changed here goes the way of every other change (revisions, last words, audit); only who asks is another.
"""
