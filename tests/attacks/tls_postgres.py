"""A PostgreSQL server with a self-signed certificate: records the data that it receives over TLS, and requests a cleartext password.

usage: tls_postgres.py ADDRESS PORT CERTIFICATE KEY LOG
"""
import socket
import ssl
import struct
import sys
import threading

address, port, certificate, key, log = sys.argv[1:6]
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(certificate, key)


def record(data):
    with open(log, "ab") as file:
        file.write(data + b"\n")


def exactly(stream, count):
    data = b""
    while len(data) < count:
        piece = stream.recv(count - len(data))
        if not piece:
            raise EOFError
        data += piece
    return data


def message(stream):
    (length,) = struct.unpack("!I", exactly(stream, 4))
    body = exactly(stream, max(length, 4) - 4)
    record(body)
    return body


def serve(stream):
    body = message(stream)
    if struct.unpack("!I", body[:4]) == (80877103,):
        stream.sendall(b"S")
        stream = context.wrap_socket(stream, server_side=True)
        record(b"TLS")
        message(stream)
    stream.sendall(b"R\x00\x00\x00\x08\x00\x00\x00\x03")
    kind = exactly(stream, 1)
    record(b"LOGIN " + kind + message(stream))


def attempt(stream):
    try:
        serve(stream)
    except (EOFError, OSError) as error:
        record(b"closed: " + str(error).encode())
    stream.close()


listener = socket.create_server((address, int(port)))
while True:
    threading.Thread(target=attempt, args=(listener.accept()[0],), daemon=True).start()
