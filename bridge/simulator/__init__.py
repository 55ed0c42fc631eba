"""The other side, shipped: terminals, a broker and faces for trying out, for load and for the tests.

A simulated terminal speaks PROTOCOL as strictly as the bridge must, and misbehaves on request.
"""
