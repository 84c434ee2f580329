"""A FUSE server that stops serving. It completes the mount, and then, by MODE:

stopped  reads no further requests: they block as with a stopped server
swallow  reads every request and replies to none: the kernel waits for the replies, and no signal interrupts the wait
lock     does not reply to writes, and starts a process that blocks on a write with its memory map locked: readers of its arguments block too

usage: fuse.py DEVICE DIRECTORY MODE [allow_other] [NAME]; NAME is the name of the process of `lock`
"""
import ctypes
import mmap
import os
import signal
import struct
import sys
import time

LOOKUP, GETATTR, OPEN, READ, WRITE, INIT = 1, 3, 14, 15, 16, 26
device, directory, mode = sys.argv[1:4]
others = "allow_other" in sys.argv
libc = ctypes.CDLL(None, use_errno=True)


def check(result):
    if result != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


# independent of the test: when this process exits, the kernel aborts all pending requests
signal.alarm(120)
fd = os.open(device, os.O_RDWR)
options = f"fd={fd},rootmode=40000,user_id={os.getuid()},group_id={os.getgid()}" + (",allow_other" if others else "")
check(libc.mount(b"rogue", directory.encode(), b"fuse", ctypes.c_ulong(0x6), options.encode()))


def request():
    data = os.read(fd, 1 << 20)
    _, opcode, unique, node = struct.unpack_from("<IIQQ", data)
    return opcode, unique, node, data[40:]


def reply(unique, body=b"", error=0):
    os.write(fd, struct.pack("<IiQ", 16 + len(body), error, unique) + body)


def attributes(node):
    kind = 0o40755 if node == 1 else 0o100644
    size = 0 if node == 1 else 4096
    return struct.pack("<QQQQQQIIIIIIIIII", node, size, 8, 0, 0, 0, 0, 0, 0, kind, 1, os.getuid(), os.getgid(), 0, 4096, 0)


opcode, unique, _, body = request()
assert opcode == INIT, opcode
reply(unique, struct.pack("<IIIIHHIIHHI28x", 7, 31, 0, 0, 12, 9, 4096, 1, 0, 0, 0))

if mode == "lock" and os.fork() == 0:
    # an open descriptor would keep the mount alive
    os.close(fd)
    with open("/proc/self/comm", "w") as name:
        name.write(sys.argv[-1])
    file = os.open(f"{directory}/file", os.O_RDWR)
    libc.mmap.restype = ctypes.c_void_p
    libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
    both = mmap.PROT_READ | mmap.PROT_WRITE
    address = libc.mmap(None, 4096, both, mmap.MAP_SHARED, file, 0)
    ctypes.memset(address, 1, 1)
    open("/mnt/loot/ready.lock", "w").close()
    # another mapping in its place: the dirty page is written first, under the lock
    MAP_FIXED = 0x10
    libc.mmap(address, 4096, both, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | MAP_FIXED, -1, 0)
    sys.exit("the server replied to the write")

if mode != "lock":
    open(f"/mnt/loot/ready.{mode}", "w").close()
while mode == "stopped":
    time.sleep(1000)
while True:
    opcode, unique, node, body = request()
    if mode == "swallow":
        continue
    if opcode == LOOKUP:
        reply(unique, struct.pack("<QQQQII", 2, 0, 1000, 1000, 0, 0) + attributes(2))
    elif opcode == GETATTR:
        reply(unique, struct.pack("<QII", 1000, 0, 0) + attributes(node))
    elif opcode == OPEN:
        reply(unique, struct.pack("<QII", 1, 0, 0))
    elif opcode == READ:
        reply(unique, bytes(4096))
    elif opcode != WRITE:
        reply(unique, error=-38)
