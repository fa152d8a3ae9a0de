"""Polling, long polling, server-sent events, WebSocket and RSocket, side by side: the same room through each of them.

Standard library alone. `run --help` says how; bench/README.md says what is measured, and docs/choosing.md what came out.
"""

import argparse
import heapq
import itertools
import json
import os
import platform
import random
import re
import selectors
import statistics
import subprocess
import sys
import time
from pathlib import Path

import clients
from clients import Broken

ROOT = Path(__file__).resolve().parent.parent.parent
RESULTS = ROOT / "bench/results/ways.json"
TABLES = ROOT / "docs/performance/ways.md"
CHOOSING = ROOT / "docs/choosing.md"
BEGIN, END = "<!-- bench/ways: measured -->\n", "<!-- end of what was measured -->\n"

# Name, title, class of a reader, class of the publisher, listener.
WAYS = [
    ("polling", "polling, once a second", clients.Poller, clients.HttpPublisher, "ws"),
    ("long-polling", "long polling", clients.LongPoller, clients.HttpPublisher, "ws"),
    ("sse", "server-sent events + POST", clients.Events, clients.HttpPublisher, "ws"),
    ("websocket", "WebSocket, with positions", clients.Plain, clients.Plain, "ws"),
    ("websocket-text", "WebSocket, text alone", clients.PlainText, clients.Plain, "ws"),
    ("rsocket-ws", "RSocket over WebSocket", clients.RsocketWebSocket, clients.RsocketWebSocket, "ws"),
    ("rsocket-tcp", "RSocket over TCP", clients.RsocketTcp, clients.RsocketTcp, "tcp"),
]
TITLES = {name: title for name, title, *_ in WAYS}
# Name, messages a second, seconds that are measured and seconds before them.
ROOMS = [("busy", 10, 10, 2), ("quiet", 0.2, 30, 5)]
POLL_EVERY = 1_000_000_000
KEEPALIVE_EVERY = 20_000_000_000
# The way that CPU time is told in terms of.
MEASURE = "sse"
WORDS = "see you at the usual place, a little later than we said, and bring the others if they like to come along"


class Server:
    """An rsockd of its own for a measurement."""

    def __init__(self, program):
        words = [program, "--listen", "tcp://127.0.0.1:0", "--listen", "ws://127.0.0.1:0/rsocket"]
        self.process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        self.addresses = {}
        while len(self.addresses) < 2:
            line = self.process.stdout.readline()
            if not line:
                raise Broken(f"{program} says nothing of where it listens")
            if found := re.match(r"listening on (tcp|ws)://([^/\s]+)", line):
                self.addresses[found[1]] = found[2]
        # Its clock of CPU time, as Linux numbers them: user and system, in nanoseconds.
        self.clock = ~self.process.pid << 3 | 2

    def cpu(self):
        return time.clock_gettime_ns(self.clock)

    def resident(self):
        """KiB of memory that are its own."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"RssAnon:\s+(\d+) kB", status)[1])

    def end(self):
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()


class Run:
    """One way, one room."""

    def __init__(self, server, way, readers, size):
        _, _, reader, publisher, listener = way
        address = server.addresses[listener]
        clock = time.monotonic_ns
        self.server, self.size = server, size
        self.selector = selectors.DefaultSelector()
        self.due, self.order = [], itertools.count()
        self.publisher = publisher(address, clock)
        # The topic is there before the first of them.
        greeted = self.publisher.received
        self.publish()
        self.wait_for(lambda: self.publisher.has_published(greeted))
        before = server.resident()
        self.readers = [reader(address, clock) for _ in range(readers)]
        for client in [self.publisher, *self.readers]:
            if client not in (key.fileobj for key in self.selector.get_map().values()):
                self.selector.register(client, selectors.EVENT_READ)
        draw = random.Random(7)
        now = clock()
        for one in self.readers:
            if isinstance(one, clients.LongPoller):
                one.poll()
            elif isinstance(one, clients.Poller):
                one.poll()
                self.repeat(now + draw.randrange(POLL_EVERY), POLL_EVERY, one.poll)
            elif isinstance(one, clients.Rsocket):
                one.subscribe()
                self.repeat(now + draw.randrange(KEEPALIVE_EVERY), KEEPALIVE_EVERY, one.keepalive)
        self.published = []
        # Each begins with the message that is there, which says that it has begun.
        self.wait_for(lambda: all(one.marks for one in self.readers))
        for one in self.readers:
            one.marks.clear()
            one.took.clear()
        self.memory = before

    def repeat(self, at, every, what):
        heapq.heappush(self.due, (at, next(self.order), every, what))

    def publish(self):
        at = time.monotonic_ns()
        text = b"ann: " + WORDS.encode()
        text = (text * (self.size // len(text) + 1))[: self.size - clients.MARK_LEN] + clients.mark(at)
        self.publisher.publish(text)
        return at

    def turn(self, until):
        """Waits for what happens next, until then at most."""
        now = time.monotonic_ns()
        while self.due and self.due[0][0] <= now:
            at, _, every, what = heapq.heappop(self.due)
            what()
            self.repeat(at + every, every, what)
        next_at = min([until] + [self.due[0][0]] if self.due else [until])
        for key, _ in self.selector.select(max(0, next_at - time.monotonic_ns()) / 1e9):
            key.fileobj.readable()

    def wait_for(self, is_so, limit=30):
        if not self.selector.get_map():
            self.selector.register(self.publisher, selectors.EVENT_READ)
        end = time.monotonic_ns() + limit * 1_000_000_000
        while not is_so():
            if time.monotonic_ns() > end:
                raise Broken(f"not within {limit} s")
            self.turn(min(end, time.monotonic_ns() + 50_000_000))

    def figures_now(self):
        return {
            "at": time.monotonic_ns(),
            "cpu": self.server.cpu(),
            "sent": sum(one.sent for one in self.readers),
            "received": sum(one.received for one in self.readers),
            "packets": sum(one.packets() for one in self.readers),
            "to_publish": self.publisher.sent + self.publisher.received,
            "messages": [len(one.marks) for one in self.readers],
            "published": len(self.published),
        }

    def measure(self, rate, seconds, warm_up):
        every = int(1e9 / rate)
        self.repeat(time.monotonic_ns(), every, lambda: self.published.append(self.publish()))
        self.wait(int(warm_up * 1e9))
        before = self.figures_now()
        self.wait(int(seconds * 1e9))
        after = self.figures_now()
        memory = self.server.resident()
        self.due = [item for item in self.due if item[2] != every]
        heapq.heapify(self.due)
        self.check()
        took = sorted(itertools.chain.from_iterable(
            one.took[first:last] for one, first, last in zip(self.readers, before["messages"], after["messages"])
        ))
        if not took:
            raise Broken("no message has come while it was measured")
        of = {key: after[key] - before[key] for key in after if key != "messages"}
        count = len(took)
        return {
            "deliveries": count,
            "bytes": (of["sent"] + of["received"]) / count,
            "bytes_up": of["sent"] / count,
            "bytes_down": of["received"] / count,
            "packets": of["packets"] / count,
            "bytes_to_publish": of["to_publish"] / of["published"],
            "p50_ms": took[count // 2] / 1e6,
            "p99_ms": took[min(count - 1, count * 99 // 100)] / 1e6,
            "cpu_micros": of["cpu"] / count / 1e3,
            "kib_a_reader": (memory - self.memory) / len(self.readers),
            "server_kib": memory,
        }

    def wait(self, nanos):
        end = time.monotonic_ns() + nanos
        while (now := time.monotonic_ns()) < end:
            self.turn(end)

    def check(self):
        """Every reader has had every message, once and in order."""
        everything = self.published
        self.wait_for(lambda: all(len(one.marks) >= len(everything) for one in self.readers))
        for one in self.readers:
            if one.marks != everything:
                raise Broken(f"{len(one.marks)} of {len(everything)} messages have come, or not in their order")

    def close(self):
        self.selector.close()
        for one in [self.publisher, *self.readers]:
            one.close()


def measure(program, way, room, options):
    _, rate, seconds, warm_up = room
    if options.quick:
        seconds, warm_up = (2, 1) if rate >= 1 else (5.5, 0.5)
    server = Server(program)
    try:
        run = Run(server, way, options.readers, options.size)
        try:
            return run.measure(rate, seconds, warm_up)
        finally:
            run.close()
    finally:
        server.end()


def is_missing(program, way):
    """Whether this rsockd does not have it."""
    server = Server(program)
    try:
        way[2](server.addresses[way[4]], time.monotonic_ns).close()
        return None
    except Broken as error:
        return str(error).splitlines()[0]
    finally:
        server.end()


def sit(options):
    program = str(options.rsockd.absolute())
    ways = [way for way in WAYS if not options.way or way[0] in options.way]
    rooms = [room for room in ROOMS if not options.room or room[0] in options.room]
    missing = {}
    for way in ways:
        if why := is_missing(program, way):
            missing[way[0]] = why
            print(f"NOT MEASURED: {way[0]}: {why}", file=sys.stderr)
    ways = [way for way in ways if way[0] not in missing]
    rounds = {(room[0], way[0]): [] for room in rooms for way in ways}
    for turn in range(options.rounds):
        for room in rooms:
            # In turned order every other round.
            for way in ways if turn % 2 == 0 else reversed(ways):
                print(f"{room[0]} {way[0]}", file=sys.stderr)
                rounds[room[0], way[0]].append(measure(program, way, room, options))
    rows = []
    for (room, way), of_way in rounds.items():
        row = {"room": room, "way": way}
        row |= {key: statistics.median(one[key] for one in of_way) for key in of_way[0]}
        if (room, MEASURE) in rounds:
            ratios = [one["cpu_micros"] / other["cpu_micros"] for one, other in zip(of_way, rounds[room, MEASURE])]
            row["cpu_of_sse"] = statistics.median(ratios)
        row["rounds"] = of_way
        rows.append(row)
    return {
        "machine": machine(),
        "readers": options.readers,
        "size": options.size,
        "rounds": options.rounds,
        "note": options.note,
        "rooms": {name: rate for name, rate, *_ in rooms},
        "rows": rows,
    }


def machine():
    model = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    return f"{os.cpu_count()} CPUs, {model[1] if model else platform.machine()}, Linux {platform.release()}"


# -- tables --

def two_digits(figure):
    """As tests/tests/readme/ways.rs writes them."""
    if figure >= 999.5:
        return f"{int(figure + 0.5):,}"
    if figure >= 9.95:
        return f"{figure:.0f}"
    return f"{figure:.1f}" if figure >= 1 else f"{figure:.2f}"


def ratio(figure):
    return "–" if figure is None else f"{two_digits(figure)}×"


def short_table(sitting):
    """What docs/choosing.md shows."""
    lines = [
        "| | bytes a message, busy | bytes a message, quiet | p50 ms | p99 ms | server CPU, busy | server CPU, quiet | KiB a reader |",
        "|---|--:|--:|--:|--:|--:|--:|--:|",
    ]
    rows = {(row["room"], row["way"]): row for row in sitting["rows"]}
    for name, title, *_ in WAYS:
        busy, quiet = rows.get(("busy", name)), rows.get(("quiet", name))
        if not busy or not quiet:
            continue
        cells = [two_digits(busy["bytes"]), two_digits(quiet["bytes"]), two_digits(busy["p50_ms"]), two_digits(busy["p99_ms"])]
        cells += [ratio(busy.get("cpu_of_sse")), ratio(quiet.get("cpu_of_sse")), two_digits(max(busy["kib_a_reader"], 0.0))]
        lines.append(f"| {title} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def long_table(sitting):
    """What docs/performance/ways.md shows."""
    columns = [
        ("bytes up", "bytes_up"), ("bytes down", "bytes_down"), ("packets", "packets"), ("bytes to publish", "bytes_to_publish"),
        ("p50 ms", "p50_ms"), ("p99 ms", "p99_ms"), ("CPU µs", "cpu_micros"), ("of SSE", "cpu_of_sse"), ("KiB a reader", "kib_a_reader"),
        ("server KiB", "server_kib"),
    ]
    text = (
        "# Measured of the ways in\n\n"
        f"{sitting['machine']}.\n"
        f"Medians of {sitting['rounds']} round{'s' * (sitting['rounds'] != 1)}; {sitting['readers']} readers of one topic, messages of "
        f"{sitting['size']} bytes. Bytes, packets and CPU time of the\nserver are those a message and reader. "
        "[How](../../bench/README.md#ways-in), and [what it says](../choosing.md).\n"
    )
    if sitting["note"]:
        text += f"\n{sitting['note']}\n"
    for room, rate in sitting["rooms"].items():
        text += f"\n## The {room} room: {rate:g} messages a second\n\n"
        text += "| | " + " | ".join(title for title, _ in columns) + " |\n|---|" + "--:|" * len(columns) + "\n"
        for row in sitting["rows"]:
            if row["room"] == room:
                cells = [two_digits(max(row[key], 0)) if row.get(key) is not None else "–" for _, key in columns]
                text += f"| {TITLES[row['way']]} | " + " | ".join(cells) + " |\n"
    return text


def plot(sitting):
    TABLES.write_text(long_table(sitting))
    text = CHOOSING.read_text()
    before, begin, rest = text.partition(BEGIN)
    _, end, behind = rest.partition(END)
    if not begin or not end:
        raise Broken(f"{CHOOSING} has no place for the table")
    note = f"\n{sitting['note']}\n" if sitting["note"] else ""
    CHOOSING.write_text(before + begin + short_table(sitting) + note + end + behind)


def main():
    parser = argparse.ArgumentParser(prog="run", description="The same room through each way in.")
    target = Path(os.environ.get("CARGO_TARGET_DIR") or ROOT / "target")
    parser.add_argument("--rsockd", type=Path, default=target / "release/rsockd", metavar="PATH", help="the service; %(default)s")
    parser.add_argument("--readers", type=int, default=100, help="readers of the room; 100")
    parser.add_argument("--size", type=int, default=120, help="bytes of a message; 120")
    parser.add_argument("--rounds", type=int, default=3, help="rounds; 3")
    parser.add_argument("--way", action="append", choices=TITLES, help="only this one (may be repeated)")
    parser.add_argument("--room", action="append", choices=[name for name, *_ in ROOMS], help="only this one")
    parser.add_argument("--quick", action="store_true", help="one short round")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures to FILE")
    parser.add_argument("--note", default="", metavar="TEXT", help="what the tables say of the sitting")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="only write the tables of a FILE into docs/")
    options = parser.parse_args()
    if options.quick:
        options.rounds = 1
    if options.plot:
        plot(json.loads(options.plot.read_text()))
        return 0
    if options.size < 2 * clients.MARK_LEN or options.readers < 1 or options.rounds < 1:
        parser.error(f"a message has {2 * clients.MARK_LEN} bytes at least, and there is a reader and a round")
    sitting = sit(options)
    if options.json:
        options.json.write_text(json.dumps(sitting, indent=1) + "\n")
    print(long_table(sitting))
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except Broken as error:
        print(f"bench/ways: {error}", file=sys.stderr)
        sys.exit(1)
