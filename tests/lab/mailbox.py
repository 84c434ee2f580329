"""A mail server that stores mails: mailbox.py PORT DIRECTORY. One file per mail, renamed into place when complete."""

import os
import socketserver
import sys

port, directory = int(sys.argv[1]), sys.argv[2]
os.makedirs(directory, exist_ok=True)


class Session(socketserver.StreamRequestHandler):
    def send(self, line):
        self.wfile.write(line.encode() + b"\r\n")

    def handle(self):
        self.send("220 mailbox ESMTP")
        envelope = []
        while line := self.rfile.readline():
            word = line.strip().upper()
            if word.startswith((b"EHLO", b"HELO")):
                self.send("250 mailbox")
            elif word.startswith((b"MAIL", b"RCPT")):
                envelope.append(line)
                self.send("250 ok")
            elif word == b"DATA":
                self.send("354 start mail input")
                text = []
                while (line := self.rfile.readline()) not in (b".\r\n", b""):
                    text.append(line[1:] if line.startswith(b"..") else line)
                name = os.path.join(directory, f"{len(os.listdir(directory)) + 1}.eml")
                with open(name + ".new", "wb") as file:
                    file.writelines(envelope + [b"\r\n"] + text)
                os.rename(name + ".new", name)
                envelope = []
                self.send("250 stored")
            elif word == b"QUIT":
                self.send("221 bye")
                return
            else:
                self.send("250 ok" if word in (b"RSET", b"NOOP") else "502 command not implemented")


class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True


Server(("127.0.0.1", port), Session).serve_forever()
