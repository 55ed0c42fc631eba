"""The floor: a bridge between MQTT and the terminals that does as little as Python allows.

It exchanges the same MQTT packets (3.1.1, QoS 1 in both directions) and the same WebSocket frames as the product for
`open/set` and `person/set`, with raw sockets, `epoll` and frames made by hand. It lacks everything else: logins, a
store, checks of persons and photos, deadlines, order, retries, states, logs, metrics. It does not handle broken
connections, wrong frames, and second connections of a terminal. A bridge in Python hardly needs less time.

`python -m benchmarks.subjects.floor BROKER_PORT BASE_TOPIC` prints `ready: terminals PORT` on stderr.
"""

import base64
import contextlib
import gc
import hashlib
import select
import socket
import sys
from collections.abc import Callable
from itertools import count
from typing import Any

import orjson

RECEIVE_BYTES = 256 * 1024
BACKLOG = 4096
"""Thousands of terminals can connect at once."""

WEBSOCKET_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
"""RFC 6455, section 1.3."""


class Peer:
    """A connected socket with buffers for incomplete frames in both directions."""

    def __init__(self, peer: socket.socket, poll: select.epoll) -> None:
        self.received = bytearray()
        self.socket = peer
        self._poll = poll
        self._unsent = bytearray()
        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def receive(self) -> bool:
        """Read what has arrived; return whether the connection still exists."""
        data = self.socket.recv(RECEIVE_BYTES)
        self.received += data
        return bool(data)

    def send(self, data: bytes) -> None:
        """Send now what the kernel accepts, and the rest as soon as it accepts more."""
        if not self._unsent:
            try:
                sent = self.socket.send(data)
            except BlockingIOError:
                sent = 0
            if sent == len(data):
                return
            data = data[sent:]
            self._poll.modify(self.socket, select.EPOLLIN | select.EPOLLOUT)
        self._unsent += data

    def send_rest(self) -> None:
        """Send more of what the kernel has not accepted yet."""
        with contextlib.suppress(BlockingIOError):
            del self._unsent[: self.socket.send(self._unsent)]
        if not self._unsent:
            self._poll.modify(self.socket, select.EPOLLIN)

    def frames(self) -> None:
        """Handle the complete frames of `received`."""
        raise NotImplementedError


class Terminal(Peer):
    """A terminal's WebSocket connection."""

    def __init__(self, peer: socket.socket, poll: select.epoll, floor: "Floor") -> None:
        super().__init__(peer, poll)
        self._floor = floor
        self._connected = False

    def frames(self) -> None:
        """Upgrade the connection, then publish the terminal's answers."""
        if not self._connected:
            head, end, rest = self.received.partition(b"\r\n\r\n")
            if not end:
                return
            self._accept(bytes(head))
            self.received = rest
        buffer = self.received
        while len(buffer) >= 6:
            length, start = buffer[1] & 0x7F, 2
            if length >= 126:
                start = 4 if length == 126 else 10
                length = int.from_bytes(buffer[2:start])
            end_of_frame = start + 4 + length
            if len(buffer) < end_of_frame:
                return
            opcode = buffer[0] & 0x0F
            payload = unmasked(bytes(buffer[start : start + 4]), bytes(buffer[start + 4 : end_of_frame]))
            del buffer[:end_of_frame]
            if opcode == 1:
                self._floor.answered(payload)
            elif opcode == 9:
                self.send(bytes([0x8A, len(payload)]) + payload)

    def _accept(self, head: bytes) -> None:
        path, _, _ = head.partition(b" HTTP/1.1")
        key = head.lower().partition(b"sec-websocket-key:")
        value = head[len(key[0]) + len(key[1]) :].partition(b"\r\n")[0].strip()
        accept = base64.b64encode(hashlib.sha1(value + WEBSOCKET_GUID).digest())
        self._floor.terminals[path.rpartition(b"/")[2]] = self
        self.send(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n"
        )
        self._connected = True

    def send_text(self, payload: bytes) -> None:
        """Send a text frame."""
        length = len(payload)
        if length < 126:
            head = bytes([0x81, length])
        elif length < 65536:
            head = b"\x81\x7e" + length.to_bytes(2)
        else:
            head = b"\x81\x7f" + length.to_bytes(8)
        self.send(head + payload)


class Broker(Peer):
    """The MQTT connection."""

    def __init__(
        self, port: int, base_topic: str, poll: select.epoll, published: Callable[[bytes, bytes], None]
    ) -> None:
        super().__init__(socket.create_connection(("127.0.0.1", port)), poll)
        self._published = published
        name = f"{base_topic}-floor".encode()
        self.socket.sendall(mqtt_packet(0x10, b"\x00\x04MQTT\x04\x02\x00\x00" + len(name).to_bytes(2) + name))
        topics = (f"{base_topic}/terminal/+/{command}".encode() for command in ("open/set", "person/set"))
        filters = b"".join(len(topic).to_bytes(2) + topic + b"\x01" for topic in topics)
        self.socket.sendall(mqtt_packet(0x82, b"\x00\x01" + filters))
        while b"\x90\x04\x00\x01" not in self.received:
            self.receive()
        self.received.clear()
        self.socket.setblocking(False)

    def receive(self) -> bool:
        """Read what has arrived, and acknowledge it at once."""
        exists = super().receive()
        # A broker that leaves Nagle's algorithm on waits for this acknowledgement, which Linux delays by 40 ms.
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
        return exists

    def frames(self) -> None:
        """Handle the commands, and ignore acknowledgements."""
        buffer = self.received
        position = 0
        while len(buffer) >= position + 2:
            length, start = buffer[position + 1], position + 2
            if length & 0x80:
                length, start = remaining_length(buffer, position + 1)
            if not start or len(buffer) < start + length:
                break
            if buffer[position] & 0xF0 == 0x30:
                topic_end = start + 2 + int.from_bytes(buffer[start : start + 2])
                self.send(b"\x40\x02" + buffer[topic_end : topic_end + 2])
                self._published(bytes(buffer[start + 2 : topic_end]), bytes(buffer[topic_end + 2 : start + length]))
            position = start + length
        del buffer[:position]

    def publish(self, topic: bytes, payload: bytes) -> None:
        """Publish with QoS 1. All use the same packet id, because nothing is repeated."""
        self.send(mqtt_packet(0x32, len(topic).to_bytes(2) + topic + b"\x00\x02" + payload))


class Floor:
    """The commands of MQTT as requests to terminals, and their answers as replies."""

    def __init__(self, broker_port: int, base_topic: str) -> None:
        self.poll = select.epoll()
        self.terminals: dict[bytes, Terminal] = {}
        self._base_topic = base_topic.encode()
        self._numbers = count()
        self._waiting: dict[str, dict[str, Any]] = {}
        self._broker = Broker(broker_port, base_topic, self.poll, self._published)
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=BACKLOG)
        self._listener.setblocking(False)
        self.port = self._listener.getsockname()[1]

    def run(self) -> None:
        """Serve until the process ends."""
        peers: dict[int, Peer] = {self._broker.socket.fileno(): self._broker}
        listening = self._listener.fileno()
        self.poll.register(listening, select.EPOLLIN)
        self.poll.register(self._broker.socket, select.EPOLLIN)
        while True:
            for number, events in self.poll.poll():
                if number == listening:
                    self._accept(peers)
                    continue
                peer = peers[number]
                if events & select.EPOLLOUT:
                    peer.send_rest()
                if events & ~select.EPOLLOUT:
                    try:
                        if peer.receive():
                            peer.frames()
                            continue
                    except ConnectionError:
                        pass
                    peer.socket.close()
                    del peers[number]

    def answered(self, payload: bytes) -> None:
        """Publish the reply for a terminal's answer."""
        answer = orjson.loads(payload)
        reply = self._waiting.pop(answer["msgid"])
        reply["outcome"] = "ok" if orjson.loads(answer["msg"])["status"] == 0 else "refused"
        topic = b"%b/terminal/%b/reply" % (self._base_topic, reply["sn"].encode())
        self._broker.publish(topic, orjson.dumps(reply))

    def _published(self, topic: bytes, payload: bytes) -> None:
        _, _, sn, command, _ = topic.split(b"/")
        request = orjson.loads(payload)
        if command == b"open":
            self._request(sn, "open", request["request_id"], None, "")
            return
        for person in request["persons"]:
            photo = person["photo"].replace("+", "%2B").replace("/", "%2F").replace("=", "%3D")
            form = (
                f"id={person['id']}&name={person['name'].replace(' ', '%20')}&IC_NO=00000000&ID_NO=00000000"
                f"&photo={photo}&startTs=-1&endTs=-1&passCount=10000&visitor=false"
            )
            self._request(sn, "setPerson", request["request_id"], person["id"], form)

    def _request(self, sn: bytes, command: str, request_id: str, person_id: str | None, form: str) -> None:
        msgid = str(next(self._numbers))
        name = sn.decode()
        self._waiting[msgid] = {"request_id": request_id, "sn": name, "command": command, "person_id": person_id}
        self.terminals[sn].send_text(orjson.dumps({"msgid": msgid, "sn": name, "cmd": command, "msg": form}))

    def _accept(self, peers: dict[int, Peer]) -> None:
        while True:
            try:
                peer, _ = self._listener.accept()
            except BlockingIOError:
                return
            peer.setblocking(False)
            peers[peer.fileno()] = Terminal(peer, self.poll, self)
            self.poll.register(peer, select.EPOLLIN)


def mqtt_packet(kind: int, body: bytes) -> bytes:
    """Return a packet with its fixed header (MQTT 3.1.1, section 2.2)."""
    length = len(body)
    if length < 128:
        return bytes([kind, length]) + body
    head = bytearray([kind])
    while length >= 128:
        head.append(length & 0x7F | 0x80)
        length >>= 7
    head.append(length)
    return bytes(head) + body


def remaining_length(buffer: bytearray, position: int) -> tuple[int, int]:
    """Return a packet's remaining length and the start of its body; the start is 0 if the length is incomplete."""
    length = shift = 0
    while position < len(buffer):
        byte = buffer[position]
        length |= (byte & 0x7F) << shift
        shift += 7
        position += 1
        if not byte & 0x80:
            return length, position
    return 0, 0


def unmasked(key: bytes, payload: bytes) -> bytes:
    """Return a payload without its mask (RFC 6455, section 5.3)."""
    length = len(payload)
    mask = (key * (length // 4 + 1))[:length]
    return (int.from_bytes(payload) ^ int.from_bytes(mask)).to_bytes(length)


def main() -> None:
    """Start, print the port of the terminals, and serve."""
    # The few objects that live long are not garbage, and a collection takes time.
    gc.disable()
    floor = Floor(int(sys.argv[1]), sys.argv[2])
    print(f"ready: terminals {floor.port}", file=sys.stderr, flush=True)
    floor.run()


if __name__ == "__main__":
    main()
