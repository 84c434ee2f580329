"""A FUSE filesystem with one file, config.toml, that it reports as owned by root. USER owns the mount, as after fusermount with
`user_allow_other`.

usage: claims.py DIRECTORY USER TEXT
"""
import ctypes
import os
import struct
import sys

LOOKUP, FORGET, GETATTR, OPEN, READ, STATFS, RELEASE, FLUSH, INIT, OPENDIR, RELEASEDIR = 1, 2, 3, 14, 15, 17, 18, 25, 26, 27, 29
directory, user, text = sys.argv[1], sys.argv[2], sys.argv[3].encode()
libc = ctypes.CDLL(None, use_errno=True)
fd = os.open("/dev/fuse", os.O_RDWR)
options = f"fd={fd},rootmode=40000,user_id={user},group_id={user},allow_other"
if libc.mount(b"claims", directory.encode(), b"fuse", ctypes.c_ulong(0x6), options.encode()) != 0:
    raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def reply(unique, body=b"", error=0):
    os.write(fd, struct.pack("<IiQ", 16 + len(body), error, unique) + body)


def attributes(node):
    kind, size = (0o40755, 0) if node == 1 else (0o100644, len(text))
    return struct.pack("<QQQQQQIIIIIIIIII", node, size, 8, 0, 0, 0, 0, 0, 0, kind, 1, 0, 0, 0, 4096, 0)


while True:
    data = os.read(fd, 1 << 20)
    _, opcode, unique, node = struct.unpack_from("<IIQQ", data)
    body = data[40:]
    if opcode == INIT:
        reply(unique, struct.pack("<IIIIHHIIHHI28x", 7, 31, 0, 0, 12, 9, 4096, 1, 0, 0, 0))
    elif opcode == LOOKUP and body.split(b"\0")[0] == b"config.toml":
        reply(unique, struct.pack("<QQQQII", 2, 0, 1, 1, 0, 0) + attributes(2))
    elif opcode == LOOKUP:
        reply(unique, error=-2)
    elif opcode == GETATTR:
        reply(unique, struct.pack("<QII", 1, 0, 0) + attributes(node))
    elif opcode in (OPEN, OPENDIR):
        reply(unique, struct.pack("<QII", 1, 0, 0))
    elif opcode == READ:
        offset = struct.unpack_from("<QQ", body)[1]
        reply(unique, text[offset:])
    elif opcode in (RELEASE, RELEASEDIR, FLUSH):
        reply(unique)
    elif opcode == STATFS and user != "0":
        # statfs depends on the server
        reply(unique, error=-5)
    elif opcode == STATFS:
        reply(unique, struct.pack("<QQQQQIIII24x", 0, 0, 0, 0, 0, 4096, 255, 4096, 0))
    elif opcode != FORGET:
        reply(unique, error=-38)
