"""Container engine on a TCP port: `tcp_engine.py PORT ID PID`. It claims a container of the real engine with its process, and a file of root as
its log and as its volume."""

import http.server
import json
import socketserver
import sys

PORT, ID, PID = sys.argv[1:]
INSPECT = {
    "Id": ID, "Name": "/web", "Image": "web", "Created": "2026-01-01T00:00:00Z", "RestartCount": 0,
    "LogPath": "/mnt/secret/log",
    "State": {"Status": "running", "Running": True, "Pid": int(PID), "StartedAt": "2026-01-01T00:00:00Z"},
    "Config": {"Env": ["POSTGRES_PASSWORD_FILE=/mnt/secret/log"], "Labels": {"PODMAN_SYSTEMD_UNIT": "ssh.service"}},
    "HostConfig": {"RestartPolicy": {"Name": "always"}, "LogConfig": {"Type": "json-file", "Config": {}}},
    "Mounts": [{"Type": "bind", "Source": "/mnt/secret", "Destination": "/data", "RW": True}],
    "NetworkSettings": {"Networks": {}},
}
LISTED = [{"Id": ID, "Names": ["/web"], "Image": "web", "State": "running", "Status": "Up"}]


class Engine(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        path = self.path.split("?")[0]
        version = {"Version": "27.0.0", "ApiVersion": "1.46", "MinAPIVersion": "1.24"}
        answers = {"/_ping": "OK", "/version": version, "/containers/json": LISTED, f"/containers/{ID}/json": INSPECT}
        found = next((value for name, value in answers.items() if path.endswith(name)), None)
        body = found if isinstance(found, str) else json.dumps(found if found is not None else {})
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, *args):
        pass


class Server(socketserver.ThreadingMixIn, socketserver.TCPServer):
    daemon_threads = True
    allow_reuse_address = True


# not HTTPServer: it resolves the name of its address
Server(("127.0.0.1", int(PORT)), Engine).serve_forever()
