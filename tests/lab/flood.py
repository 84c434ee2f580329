"""Sends alerts at full speed: flood.py PORT TOKEN REQUESTS DISTINCT. Request i carries alert `Flood` with number i modulo DISTINCT.
Prints the number of responses per status and the numbers of the accepted alerts; a request without a response is sent again."""

import http.client
import json
import sys
import threading
import time

port, token, requests, distinct = int(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
statuses, accepted = {}, set()
lock = threading.Lock()
left = list(range(requests))


def payload(i):
    return json.dumps({"version": "4", "alerts": [{"status": "firing", "labels": {"alertname": "Flood", "number": str(i % distinct)},
                       "startsAt": "2026-11-21T10:00:00Z"}]})


def send():
    connection = None
    while True:
        with lock:
            if not left:
                return
            i = left.pop()
        try:
            connection = connection or http.client.HTTPConnection("127.0.0.1", port, timeout=30)
            connection.request("POST", "/alerts", payload(i), {"Authorization": f"Bearer {token}"})
            response = connection.getresponse()
            response.read()
            status = response.status
            if response.getheader("connection") == "close":
                connection.close()
                connection = None
        except OSError:
            status, connection = "none", None
        except http.client.HTTPException:
            status, connection = "none", None
        with lock:
            statuses[status] = statuses.get(status, 0) + 1
            if status == 202:
                accepted.add(i % distinct)
            elif status == "none":
                # no listener at the moment: retried later, as by Alertmanager
                left.append(i)
        if status in ("none", 503):
            time.sleep(0.05)


threads = [threading.Thread(target=send) for _ in range(16)]
[t.start() for t in threads]
[t.join() for t in threads]
print(json.dumps({"statuses": {str(k): v for k, v in statuses.items()}, "accepted": sorted(accepted)}))
