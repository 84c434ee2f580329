"""A server that closes its listener after one connection, so that no listener exists when the peer of that connection is looked up. It logs
received data, and requests a login with PROTOCOL (redis, postgres, http).

usage: one_connection.py PORT LOG PROTOCOL
"""
import socket
import struct
import sys

port, log, protocol = int(sys.argv[1]), sys.argv[2], sys.argv[3]
SSL_REQUEST = struct.pack(">II", 8, 80877103)
REQUESTS = {
    "redis": b"-NOAUTH Authentication required.\r\n",
    "postgres": b"R" + struct.pack(">II", 8, 3),
    "http": b"HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Basic realm=x\r\nContent-Length: 0\r\n\r\n",
}

while True:
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", port))
    listener.listen(1)
    connection, _ = listener.accept()
    listener.close()
    connection.settimeout(2)
    try:
        while data := connection.recv(4096):
            with open(log, "ab") as file:
                file.write(data + b"\n")
            connection.send(b"N" if data == SSL_REQUEST else REQUESTS[protocol])
    except OSError:
        pass
    connection.close()
