"""Visitors of a guest book, as many at once as asked, as quickly as they can: run in a pod. Says each
half second, and at the end, how many were answered and which were not.

    visitors.py URL COUNT
"""

import json
import signal
import sys
import threading
import time
import urllib.request

url, count = sys.argv[1], int(sys.argv[2])
done, failures, leaving = [0], [], threading.Event()
lock = threading.Lock()


def visit(number):
    while not leaving.is_set():
        try:
            request = urllib.request.Request(url, data=b"visitor %d" % number, method="POST")
            with urllib.request.urlopen(request, timeout=20) as reply:
                reply.read()
            with lock:
                done[0] += 1
        except OSError as error:  # refused, reset, timed out, or answered with anything but 200
            with lock:
                failures.append(f"{time.strftime('%H:%M:%S')} {error}")
            time.sleep(0.1)


def say():
    with lock:
        print(json.dumps({"done": done[0], "failures": failures[:20]}))


signal.signal(signal.SIGTERM, lambda *_: leaving.set())
threads = [threading.Thread(target=visit, args=(number,)) for number in range(count)]
for thread in threads:
    thread.start()
while not leaving.wait(0.5):
    say()
for thread in threads:
    thread.join()
say()
