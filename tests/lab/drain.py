"""A log server: drain.py PORT. Reads what it is sent; on SIGUSR1 it stops reading from everybody who is connected, and goes on with
those who come later."""

import signal
import socket
import sys
import threading

stopped = set()
connections = set()


def stop(*_):
    stopped.update(connections)


def read(connection):
    connections.add(connection)
    while connection not in stopped and connection.recv(1 << 16):
        pass
    threading.Event().wait()


signal.signal(signal.SIGUSR1, stop)
server = socket.create_server(("127.0.0.1", int(sys.argv[1])))


def accept():
    while True:
        connection, _ = server.accept()
        threading.Thread(target=read, args=(connection,), daemon=True).start()


threading.Thread(target=accept, daemon=True).start()
while True:
    signal.pause()
