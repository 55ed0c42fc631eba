"""The terminals' wire format (PROTOCOL): pure functions over str and bytes, without I/O, clock or log.

A request goes out through `requests.encode_…`, its answer comes in through `replies.decode_reply`. The other
two directions, `requests.decode_request` and `replies.encode_reply`, are the terminal's own: the simulator
uses them, and with them the tests run both ends back to back. What goes wrong is always one of the two kinds
in `errors`.
"""
