"""A mail server that keeps what it gets: mailbox.py PORT FOLDER. One file per mail, complete when it is there."""

import os
import socketserver
import sys

port, folder = int(sys.argv[1]), sys.argv[2]
os.makedirs(folder, exist_ok=True)


class Session(socketserver.StreamRequestHandler):
    def say(self, line):
        self.wfile.write(line.encode() + b"\r\n")

    def handle(self):
        self.say("220 mailbox ESMTP")
        envelope = []
        while line := self.rfile.readline():
            word = line.strip().upper()
            if word.startswith((b"EHLO", b"HELO")):
                self.say("250 mailbox")
            elif word.startswith((b"MAIL", b"RCPT")):
                envelope.append(line)
                self.say("250 ok")
            elif word == b"DATA":
                self.say("354 go on")
                text = []
                while (line := self.rfile.readline()) not in (b".\r\n", b""):
                    text.append(line[1:] if line.startswith(b"..") else line)
                name = os.path.join(folder, f"{len(os.listdir(folder)) + 1}.eml")
                with open(name + ".new", "wb") as file:
                    file.writelines(envelope + [b"\r\n"] + text)
                os.rename(name + ".new", name)
                envelope = []
                self.say("250 kept")
            elif word == b"QUIT":
                self.say("221 bye")
                return
            else:
                self.say("250 ok" if word in (b"RSET", b"NOOP") else "502 not here")


class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True


Server(("127.0.0.1", port), Session).serve_forever()
