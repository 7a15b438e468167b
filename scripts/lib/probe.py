"""Readiness in the servers' own protocols, with nothing but the standard library.

probe.py kafka PORT     0 when the broker is registered and unfenced (Metadata v1 lists it)
probe.py mongodb PORT   0 when mongod is a writable primary; initiates its one-node replica set when it has none
"""

import socket
import struct
import sys

TIMEOUT_SECONDS = 2
REPLICA_SET = "libertum"


def receive(sock, count):
    data = b""
    while len(data) < count:
        chunk = sock.recv(count - len(data))
        if not chunk:
            raise ConnectionError("the server closed the connection")
        data += chunk
    return data


def connect(port):
    return socket.create_connection(("127.0.0.1", port), TIMEOUT_SECONDS)


def kafka_ready(port):
    """Metadata request, API key 3, version 1, for no topics: brokers that are fenced are not in the answer."""
    client = b"stack"
    body = struct.pack(">hhih", 3, 1, 1, len(client)) + client + struct.pack(">i", 0)
    with connect(port) as sock:
        sock.sendall(struct.pack(">i", len(body)) + body)
        (size,) = struct.unpack(">i", receive(sock, 4))
        _correlation, brokers = struct.unpack(">ii", receive(sock, size)[:8])
    return brokers > 0


def bson(document):
    """Encodes str, bool, int, float, dict and list values: all that our three commands need."""
    out = b""
    for key, value in document.items():
        name = key.encode() + b"\0"
        if isinstance(value, bool):
            out += b"\x08" + name + (b"\1" if value else b"\0")
        elif isinstance(value, int):
            out += b"\x10" + name + struct.pack("<i", value)
        elif isinstance(value, str):
            text = value.encode() + b"\0"
            out += b"\x02" + name + struct.pack("<i", len(text)) + text
        elif isinstance(value, dict):
            out += b"\x03" + name + bson(value)
        elif isinstance(value, list):
            out += b"\x04" + name + bson({str(i): item for i, item in enumerate(value)})
        else:
            raise TypeError(f"no encoding for {type(value).__name__}")
    return struct.pack("<i", len(out) + 5) + out + b"\0"


def unbson(data):
    """Decodes the fields we read; the others by their length only (bsonspec.org, version 1.1)."""
    fixed = {0x01: 8, 0x06: 0, 0x07: 12, 0x09: 8, 0x0A: 0, 0x10: 4, 0x11: 8, 0x12: 8, 0x13: 16, 0x7F: 0, 0xFF: 0}
    fields, at = {}, 4
    while data[at] != 0:
        kind = data[at]
        end = data.index(b"\0", at + 1)
        key, at = data[at + 1 : end].decode(), end + 1
        if kind == 0x08:
            fields[key], at = data[at] == 1, at + 1
        elif kind == 0x02:
            (size,) = struct.unpack_from("<i", data, at)
            fields[key], at = data[at + 4 : at + 3 + size].decode(), at + 4 + size
        elif kind in (0x03, 0x04):
            (size,) = struct.unpack_from("<i", data, at)
            fields[key], at = data[at : at + size], at + size
        elif kind == 0x05:
            (size,) = struct.unpack_from("<i", data, at)
            at += 5 + size
        elif kind in fixed:
            if kind == 0x01:
                (fields[key],) = struct.unpack_from("<d", data, at)
            elif kind == 0x10:
                (fields[key],) = struct.unpack_from("<i", data, at)
            at += fixed[kind]
        else:
            raise ValueError(f"field {key} has the unknown type {kind:#x}")
    return fields


def mongodb_command(sock, command):
    """OP_MSG with one body section."""
    body = struct.pack("<iB", 0, 0) + bson({**command, "$db": "admin"})
    sock.sendall(struct.pack("<iiii", 16 + len(body), 1, 0, 2013) + body)
    (size,) = struct.unpack("<i", receive(sock, 4))
    answer = receive(sock, size - 4)
    return unbson(answer[12 + 5 :])


def mongodb_ready(port):
    with connect(port) as sock:
        sock.settimeout(TIMEOUT_SECONDS)
        hello = mongodb_command(sock, {"hello": 1})
        if "setName" not in hello and hello.get("isreplicaset"):
            sock.settimeout(20)
            member = {"_id": 0, "host": f"127.0.0.1:{port}"}
            answer = mongodb_command(sock, {"replSetInitiate": {"_id": REPLICA_SET, "members": [member]}})
            if answer.get("ok") != 1 and answer.get("codeName") != "AlreadyInitialized":
                raise ConnectionError(f"replSetInitiate: {answer.get('errmsg')}")
            return False
        return hello.get("isWritablePrimary") is True


def main():
    probes = {"kafka": kafka_ready, "mongodb": mongodb_ready}
    if len(sys.argv) != 3 or sys.argv[1] not in probes or not sys.argv[2].isdigit():
        sys.exit(__doc__)
    try:
        ready = probes[sys.argv[1]](int(sys.argv[2]))
    except (OSError, struct.error, ValueError) as error:
        sys.exit(f"{sys.argv[1]}: {error}")
    sys.exit(0 if ready else 1)


if __name__ == "__main__":
    main()
