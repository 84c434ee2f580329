"""Container engine of an ordinary user: `user_engine.py SOCKET ID`.

It reports that the container ID, which is another engine's, was stopped by hand, lists more containers than anybody has, has a name and a
network of the other engine, fails to list networks, and responds slowly to everything else.
"""

import json
import socketserver
import sys
import time

SOCKET, ID = sys.argv[1:]
STOPS = "\n".join(
    json.dumps({"Type": "container", "Action": action, "time": int(time.time()) + at,
                "Actor": {"ID": ID, "Attributes": {"name": "web", "signal": "15"}}})
    for at in range(-30, 30, 5) for action in ("kill", "stop"))
CONTAINERS = [{"Id": f"{n:064x}", "Names": ["/web"], "Image": "web", "State": "running", "Status": "Up"} for n in range(5000)]


def answer(path):
    if path.startswith("/_ping"):
        return 200, "OK"
    if path.startswith("/version"):
        return 200, json.dumps({"Version": "27.0.0", "ApiVersion": "1.46", "MinAPIVersion": "1.24"})
    if "/containers/json" in path:
        return 200, json.dumps(CONTAINERS)
    if "/events" in path:
        return 200, STOPS
    if "/networks" in path:
        return 403, "denied"
    time.sleep(2)
    return 200, "{}"


class Engine(socketserver.StreamRequestHandler):
    def handle(self):
        while True:
            request = self.rfile.readline().decode(errors="replace").split(" ")
            if len(request) < 2:
                return
            while self.rfile.readline().strip():
                pass
            status, body = answer(request[1])
            head = f"HTTP/1.1 {status} X\r\nContent-Length: {len(body.encode())}\r\n\r\n"
            self.wfile.write((head + body).encode())


class Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True
    request_queue_size = 128


Server(SOCKET, Engine).serve_forever()
