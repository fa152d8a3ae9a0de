"""A TCP proxy that cuts connections, so that what resumes has something to resume from.

Alone: `python cutting.py HOST:PORT` says where it listens and cuts as CUTS says.
"""

import contextlib
import itertools
import socket
import struct
import sys
import threading

# Connection by connection: after how many bytes it is cut, going down to the
# client or up to the server, in the middle of frames. Connections after these live.
CUTS_IN_STREAMS = [
    ("down", 10_007),
    ("up", 403),
    ("down", 33_331),
    ("down", 23_456),
    ("up", 211),
    ("down", 40_009),
]
# And in RESUME_OK and in RESUME.
CUTS = [*CUTS_IN_STREAMS[:3], ("down", 5), ("up", 10), *CUTS_IN_STREAMS[3:]]


class CuttingProxy:
    """Use it in a `with`; `address` is where it listens, `cut` how often it has cut.

    `tap(connection, direction, chunk)` sees what is passed on; the first
    connection is 0. `cut_behind` cuts all that are open, and nobody gets through until `mend`.
    """

    def __init__(self, host, port, cuts=CUTS, tap=None):
        self.upstream = (host, port)
        self.cuts = list(cuts)
        self.tap = tap or (lambda *_: None)
        self.cut = 0
        self.is_down = threading.Event()
        self._left = None
        self._open = set()
        self._lock = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = self._listener.getsockname()

    def __enter__(self):
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_):
        self._listener.close()
        self._end_all()

    def _end_all(self, was_cut=False):
        with self._lock:
            left = list(self._open)
        for pair in left:
            pair.end(was_cut)

    def cut_behind(self, count):
        """Cuts the line when so many more bytes have gone down to the client."""
        with self._lock:
            self._left = count

    def mend(self):
        self.is_down.clear()

    def allow(self, direction, chunk):
        """How many bytes of it may pass, which are less than all where the line is cut there."""
        with self._lock:
            if self._left is None or direction == "up":
                return len(chunk)
            count = min(len(chunk), self._left)
            self._left -= count
            if self._left == 0:
                self._left = None
                self.is_down.set()
            return count

    def _accept(self):
        plans = iter(self.cuts)
        for number in itertools.count():
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            if self.is_down.is_set():
                client.close()
                continue
            try:
                server = socket.create_connection(self.upstream)
            except OSError:
                client.close()
                continue
            direction, limit = next(plans, (None, None))
            pair = _Pair(self, number, client, server)
            with self._lock:
                self._open.add(pair)
            for name, source, target in (("up", client, server), ("down", server, client)):
                budget = limit if direction == name else None
                arguments = (name, source, target, budget)
                threading.Thread(target=pair.pump, args=arguments, daemon=True).start()

    def has_ended(self, pair, was_cut):
        with self._lock:
            self._open.discard(pair)
            self.cut += was_cut
            return self.cut


class _Pair:
    def __init__(self, proxy, number, client, server):
        self.proxy = proxy
        self.number = number
        self.sockets = (client, server)
        self._ending = threading.Lock()
        self._ended = False

    def pump(self, direction, source, target, budget):
        """Passes bytes on until the end of either side or of the budget."""
        with contextlib.suppress(OSError):
            while chunk := source.recv(4096 if budget is None else min(4096, budget)):
                self.proxy.tap(self.number, direction, chunk)
                target.sendall(chunk[: self.proxy.allow(direction, chunk)])
                if self.proxy.is_down.is_set():
                    self.proxy._end_all(was_cut=True)
                    return
                if budget is not None:
                    budget -= len(chunk)
                    if budget == 0:
                        self.end(was_cut=True)
                        return
        self.end()

    def end(self, was_cut=False):
        with self._ending:
            if self._ended:
                return
            self._ended = True
        number = self.proxy.has_ended(self, was_cut)
        for each in self.sockets:
            with contextlib.suppress(OSError):
                if was_cut and number % 2 == 0:
                    # A reset, which also throws away what was not yet read.
                    linger = struct.pack("ii", 1, 0)
                    each.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                    # Wakes the other pump: while it reads, nothing is closed.
                    each.shutdown(socket.SHUT_RD)
                else:
                    each.shutdown(socket.SHUT_RDWR)
            each.close()


def main():
    host, _, port = sys.argv[1].rpartition(":")
    with CuttingProxy(host, int(port)) as proxy:
        print("listening on tcp://{}:{}".format(*proxy.address), flush=True)
        sys.stdin.read()
        print(f"cut {proxy.cut} times", flush=True)


if __name__ == "__main__":
    main()
