"""Somebody who has HTTP and nothing else: polls, with the position that the last answer said, and POST.

Standard library only.
"""

import http.client
import json
import sys
import threading
import time
import urllib.error
import urllib.request
import uuid


def tell(**what):
    print(json.dumps(what), flush=True)


def ask(request):
    """The answer; None where there is none, as of a line that is cut."""
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            body = answer.read()
            # Where the line is cut among the headers, this library takes those before for all.
            is_whole = answer.status == 204 or "Content-Length" in answer.headers
            return (answer.status, answer.headers, body) if is_whole else None
    except urllib.error.HTTPError as error:
        if error.code == 503:
            return None
        tell(broken=f"{error.code} {error.read().decode()}")
        return None
    except (OSError, http.client.HTTPException):
        return None


def read(address):
    place, wait = "from=start", "0"
    while True:
        answer = ask(f"{address}?poll={wait}&{place}")
        if answer is None or "Rsock-Next" not in answer[1]:
            time.sleep(0.05)
            continue
        status, headers, body = answer
        if wait == "0":
            tell(joined=True)
        place, wait = f"after={headers['Rsock-Next']}", "20s"
        if status != 200:
            continue
        said = json.loads(body)
        if gap := said.get("gap"):
            tell(gap=gap)
        for item in said["items"]:
            tell(epoch=item["epoch"], offset=item["offset"], text=item["text"])


def main(url, name, topic):
    address = f"{url}/api/topics/{topic}"
    threading.Thread(target=read, args=(address,), daemon=True).start()
    for line in sys.stdin:
        headers = {"Idempotency-Key": uuid.uuid4().hex, "Content-Type": "text/plain"}
        request = urllib.request.Request(f"{address}?from={name}", line.rstrip("\n").encode(), headers)
        while ask(request) is None:
            time.sleep(0.05)


main(*sys.argv[1:])
