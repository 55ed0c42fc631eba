"""Requests of the command line to a bridge that runs on the same machine.

They go over a Unix socket in Linux's abstract namespace. It needs no file and no folder, so it works with every store
and in every container in which the command runs beside the bridge. Its name contains the random suffix that only
users of the store know, and both sides check the user id of the other one.
"""
