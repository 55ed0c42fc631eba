"""The terminals' wire format (docs/protocol.md): pure functions over str and bytes, without I/O, clock or log.

`requests.encode_…` write requests, `replies.decode_reply` reads their answers. `requests.decode_request` and
`replies.encode_reply` are the terminal's side: the simulator uses them, and the tests connect both sides without a
socket. Every error is one of the two kinds in `errors`.
"""
