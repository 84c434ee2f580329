"""A web server that stores posted bodies: hook.py PORT DIRECTORY [CERTIFICATE KEY]. One file per body, numbered in the order of arrival and renamed
into place when complete. A file DIRECTORY/status holds the status of its responses."""

import http.server
import itertools
import os
import ssl
import sys

port, directory = int(sys.argv[1]), sys.argv[2]
os.makedirs(directory, exist_ok=True)
numbers = itertools.count(1)


class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        try:
            with open(os.path.join(directory, "status")) as file:
                status = int(file.read())
        except FileNotFoundError:
            status = 200
        if status < 300:
            name = os.path.join(directory, f"{next(numbers):05}.json")
            with open(name + ".new", "wb") as file:
                file.write(body)
            os.rename(name + ".new", name)
        self.send_response(status)
        self.send_header("content-length", "0")
        self.end_headers()

    do_GET = do_POST

    def log_message(self, *words):
        pass


server = http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler)
if len(sys.argv) > 3:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(sys.argv[3], sys.argv[4])
    server.socket = context.wrap_socket(server.socket, server_side=True)
server.serve_forever()
