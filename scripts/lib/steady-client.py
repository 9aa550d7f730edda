"""Asks until it is told to stop, and writes down what failed.

    steady-client.py DIRECTORY NAME ADDRESS...

For each address, HTTP on port 80, a request every 10 ms over a connection of its own, and one every 10 ms over a
connection that is kept; DIRECTORY/NAME.failed gets a line for each that was not answered with 200,
DIRECTORY/NAME.done their number in the end. It ends when DIRECTORY/enough is there.
"""
import http.client
import os
import sys
import threading
import time

directory, name, *addresses = sys.argv[1:]
lock, counts = threading.Lock(), {}


def ask(address, is_kept):
    label, connection = address + (" kept" if is_kept else " new"), None
    while not os.path.exists(directory + "/enough"):
        began = time.time()
        try:
            connection = connection or http.client.HTTPConnection(address, 80, timeout=5)
            connection.request("GET", "/")
            response = connection.getresponse()
            response.read()
            problem = None if response.status == 200 else f"status {response.status}"
            # HTTP/1.1 lets a server end a connection in order: it says so, and the next request makes another.
            if not is_kept or problem or response.getheader("connection", "").lower() == "close":
                connection.close()
                connection = None
        except (OSError, http.client.HTTPException) as error:
            problem, connection = repr(error), None
        with lock:
            counts[label] = counts.get(label, 0) + 1
            if problem:
                with open(f"{directory}/{name}.failed", "a") as file:
                    file.write(f"{time.strftime('%T', time.localtime(began))} {name} {label}: {problem} "
                               f"after {time.time() - began:.3f} s\n")
        time.sleep(0.01)


threads = [threading.Thread(target=ask, args=pair) for pair in [(each, kept) for each in addresses for kept in (0, 1)]]
for each in threads:
    each.start()
for each in threads:
    each.join()
with open(f"{directory}/{name}.done", "w") as file:
    file.write(f"{sum(counts.values())}\n")
