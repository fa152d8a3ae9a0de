"""One room, by every way that there is into one, at once.

Standard library only, and what tests/plain and tests/interop install. Debian: chromium nodejs npm python3-venv
default-jdk-headless maven.
"""

import argparse
import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import traceback
import urllib.request
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
sys.path[:0] = [str(HERE.parent / "interop"), str(HERE.parent / "plain")]

import plain  # noqa: E402
from cutting import CuttingProxy  # noqa: E402
from peers import PEERS, Missing, need  # noqa: E402
from programs import Broken, Service, end, say  # noqa: E402

IN_CI = os.environ.get("CI") == "true"
TOPIC = "room.all"
LIMIT = 30
# The console has 400 rows, so that all of it together stays below.
EACH, WHILE_KILLED = 20, 8
# Who leaves is shown for so long, should they be back (docs/topics.md), and until a busy machine has said so.
LEAVING = 5 + 10
# A line is cut behind so many bytes more, which is in the middle of some message.
BEHIND = 701
# What they say: more than ASCII, and no JSON.
SAID = "{name} {phase} {n} 한"

# Those in Chromium; who is in the room by name; whose session goes on when the line is back, with what was asked for before;
# and who may publish while the service dies, since it has ids and says the same again until that is acknowledged: a plain
# WebSocket has none.
IN_PAGES = ("console", "page", "events")
MEMBERS = ("rsock", "console", "page", "ws", "websockets", "module", "java")
RESUMES = ("console", "module", "java")
HAVE_IDS = ("rsock", "console", "events", "polling", "module", "java")
KINDS = ("durable", "memory", "overrun", "seeds")


class Failed(Exception):
    """A case that did not hold."""


class Tally:
    def __init__(self):
        self.ok = self.failed = self.skipped = 0
        self.lock = threading.Lock()

    @contextlib.contextmanager
    def case(self, name):
        """A case: whatever goes wrong in it is told, and the next goes on."""
        try:
            yield
        except (Failed, Broken) as error:
            self.fail(name, error)
        except Exception:
            self.fail(name, traceback.format_exc())
        else:
            with self.lock:
                self.ok += 1
                print(f"ok {name}", flush=True)

    def fail(self, name, why):
        with self.lock:
            self.failed += 1
            print(f"FAIL {name}: {why}", flush=True)

    def missing(self, name, why):
        say(f"{why}, so {name} DOES NOT RUN")
        self.failed += IN_CI
        self.skipped += not IN_CI
        print(f"{'FAIL' if IN_CI else 'skip'} {name}: {why}", flush=True)


def until(holds, otherwise, limit=LIMIT):
    """Waits until it holds: for what nothing tells of."""
    deadline = time.monotonic() + limit
    while not holds():
        if time.monotonic() > deadline:
            raise Failed(otherwise() if callable(otherwise) else otherwise)
        time.sleep(0.02)


class Process:
    """A program that is told what to say, line by line, and tells what it reads as lines of JSON."""

    def __init__(self, command, work, name, take):
        self.log = open(work / f"{name}.log", "w+")
        self.process = subprocess.Popen(
            list(map(str, command)),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.log,
            encoding="utf-8",
            errors="replace",
            start_new_session=True,
        )
        self.take = take
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        for line in self.process.stdout:
            try:
                self.take(json.loads(line))
            except ValueError:
                self.take({"broken": f"it said {line.rstrip()}"})

    def write(self, line):
        with contextlib.suppress(OSError):
            self.process.stdin.write(f"{line}\n")
            self.process.stdin.flush()

    def close(self):
        with contextlib.suppress(OSError):
            self.process.stdin.close()

    def end(self):
        end(self.process)
        self.log.close()

    def last_words(self):
        self.log.flush()
        return Path(self.log.name).read_text(errors="replace")[-600:]


class Peer:
    """One who is in the room: what it has read, in its order, as (offset, text), and None for a gap that it was told."""

    def __init__(self, name, line):
        self.name, self.line = name, line
        self.events, self.told = [], []
        self.joined = threading.Event()
        self.problem = None
        # It writes what others say, and what is its own only where it cannot know that.
        self.has_own = name != "rsock"
        self.write = self.leave = None

    def take(self, it):
        if it.get("joined") or it.get("event") == "all":
            self.joined.set()
        elif "broken" in it:
            self.problem = self.problem or it["broken"]
        elif "rows" in it:
            # The console shows what stands there now.
            self.events = [None if "gap" in row else (row["offset"], row["text"]) for row in it["rows"]]
        elif "gap" in it or "reset" in it:
            self.events = [*self.events, None]
        elif "offset" in it:
            if self.part(one := [(it["offset"], it.get("text"))]):
                self.events = [*self.events, *one]
        elif "event" in it:
            self.told.append((it["event"], it.get("name")))

    def say(self, phase, n):
        self.write(SAID.format(name=self.name, phase=phase, n=n))

    def lives(self):
        """What it has read, of each numbering, where gaps were told in between."""
        lives = [[]]
        for event in self.events:
            if event is None:
                lives.append([])
            else:
                lives[-1].append(event)
        return lives

    def part(self, messages):
        """Those of them that it is to read."""
        return [one for one in messages if self.has_own or not one[1].startswith(f"{self.name} ")]


class Setting:
    """What there is to be in the room with, as far as it is here."""

    def __init__(self, rsockd, cache, work, tally):
        self.rsockd, self.work, self.tally = rsockd, work, tally
        self.rsock = rsockd.with_name("rsock")
        self.node = self.browser = self.python = self.java = self.only = None
        with self.wanted("ws, module, console, page, events"):
            self.node = plain.node_packages(cache, work)
            for path in HERE.glob("*.mjs"):
                shutil.copy(path, work)
        with self.wanted("console, page, events"):
            names = ("chromium", "chromium-browser", "google-chrome")
            self.browser = next(filter(None, map(shutil.which, names)), None) or need(names[0], names[0])
        with self.wanted("websockets"):
            self.python = plain.python_packages(cache)
        with self.wanted("java"):
            PEERS["java"].prepare(cache, work)
            self.java = PEERS["java"].command("member")

    @contextlib.contextmanager
    def wanted(self, what):
        try:
            yield
        except Missing as error:
            self.tally.missing(what, error)

    def names(self):
        here = {"rsock": True, "polling": True, "ws": self.node, "module": self.node, "java": self.java}
        here["websockets"] = self.python
        here |= dict.fromkeys(IN_PAGES, self.node and self.browser)
        names = ("rsock", *IN_PAGES, "ws", "websockets", "module", "polling", "java")
        return [name for name in names if here[name] and (not self.only or name in self.only)]

    def command(self, name, address):
        if name == "rsock":
            words = [self.rsock, "topic", "join", f"ws://{address}/rsocket", TOPIC]
            return [*words, "--name", name, "--from", "start", "--out", "json"]
        if name == "ws":
            return [self.node, self.work / "socket.mjs", f"ws://{address}", name, TOPIC]
        if name == "module":
            module = ROOT / "server/web/rsocket.mjs"
            return [self.node, self.work / "member.mjs", module, f"ws://{address}", name, TOPIC]
        if name == "websockets":
            return [self.python, "-B", HERE / "socket_member.py", f"ws://{address}", name, TOPIC]
        if name == "polling":
            return [sys.executable, "-B", HERE / "polling.py", f"http://{address}", name, TOPIC]
        return [*self.java, f"ws://{address}/rsocket", name, TOPIC]


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


class Room:
    def __init__(self, setting, kind, ends):
        self.setting, self.kind, self.ends = setting, kind, ends
        self.tally = setting.tally
        self.port = free_port()
        self.work = setting.work / kind
        self.work.mkdir()
        self.peers, self.processes = {}, {}
        self.service = None

    def start(self):
        words = [self.setting.rsockd, "--listen", f"ws://127.0.0.1:{self.port}/rsocket", "--log", "warn"]
        rule = "memory,messages=5" if self.kind == "overrun" else self.kind
        words += ["--topic", f"room.*={rule}", "--data", self.work / "data"]
        self.service = Service("rsockd", words, {"ws"}, self.work)
        self.service.__enter__()

    def kill(self):
        os.killpg(self.service.process.pid, signal.SIGKILL)
        self.service.process.wait()

    def stop(self):
        if self.service:
            self.service.__exit__()

    def ask(self, path, body=None):
        address = f"http://127.0.0.1:{self.port}/api/topics/{TOPIC}{path}"
        with urllib.request.urlopen(address, body, timeout=LIMIT) as answer:
            return json.load(answer)

    def log(self):
        """What the room has: the truth that all are to see."""
        page = self.ask("/history?limit=1000")
        return [(one["offset"], one["text"]) for one in page["messages"]]

    def let_in(self):
        """Everybody comes, by a line of its own."""
        names = self.setting.names()
        for name in names:
            line = self.ends.enter_context(CuttingProxy("127.0.0.1", self.port, cuts=()))
            self.peers[name] = Peer(name, line)
        in_pages = [self.peers[name] for name in names if name in IN_PAGES]
        for peer in self.peers.values():
            if peer not in in_pages:
                self.start_alone(peer)
        if in_pages:
            self.start_pages(in_pages)
        for peer in self.peers.values():
            if not peer.joined.wait(2 * LIMIT):
                words = self.processes[peer.name].last_words()
                raise Broken(f"{peer.name} did not come in: {peer.problem or ''} {words}")

    def start_alone(self, peer):
        address = "{}:{}".format(*peer.line.address)
        process = Process(self.setting.command(peer.name, address), self.work, peer.name, peer.take)
        self.ends.callback(process.end)
        self.processes[peer.name] = process
        peer.write, peer.leave = process.write, process.close

    def start_pages(self, peers):
        members = ["{}=http://{}:{}".format(peer.name, *peer.line.address) for peer in peers]
        words = [self.setting.node, self.setting.work / "pages.mjs", self.setting.browser, TOPIC, *members]

        def take(it):
            for peer in peers:
                if it.get("name", peer.name) == peer.name:
                    peer.take(it)

        process = Process(words, self.work, "pages", take)
        self.ends.callback(process.end)
        for peer in peers:
            self.processes[peer.name] = process
            peer.write = lambda text, name=peer.name: process.write(f"{name}\t{text}")
            peer.leave = lambda name=peer.name: process.write(name)

    def others(self, group):
        return [peer for peer in self.peers.values() if peer.name not in group]

    def talk(self, peers, phase, rounds, is_enough=lambda: False, pace=0.05):
        """They all say something, again and again; gives how many rounds."""
        for n in range(rounds):
            if is_enough():
                return n
            for peer in peers:
                peer.say(phase, n)
            # A pace at which the room is read while it is written to.
            time.sleep(pace)
        return rounds

    def settle(self, expected):
        """Waits until all that was said is in the room, once; gives the log."""
        wanted = sorted(expected)
        log = []

        def is_there():
            nonlocal log
            with contextlib.suppress(OSError):
                log = self.log()
            return len(log) >= len(wanted)

        until(is_there, lambda: f"{len(log)} messages of {len(wanted)}: {self.absent(wanted, log)}")
        if sorted(text for _, text in log) != wanted:
            raise Failed(f"{len(log)} messages in the log, {len(wanted)} were said: {self.absent(wanted, log)}")
        return log

    @staticmethod
    def absent(wanted, log):
        texts = [text for _, text in log]
        twice = sorted({text for text in texts if texts.count(text) > 1})
        return f"missing {[one for one in wanted if one not in texts][:4]}, twice {twice[:4]}"

    def see(self, phase, log, of=-1, gaps=0):
        """A case for each: that it has read just this, in this order, and was told so many gaps."""
        for peer in self.peers.values():
            with self.tally.case(f"{self.kind}: {phase}: {peer.name}"):
                part = peer.part(log)

                def shown(peer=peer, part=part):
                    life = peer.lives()[of]
                    at = next((i for i, (a, b) in enumerate(zip(life, part)) if a != b), min(len(life), len(part)))
                    return (
                        f"{len(life)} messages of {len(part)}, {len(peer.lives()) - 1} gaps; "
                        f"the first other is {life[at : at + 2]}, not {part[at : at + 2]}; {peer.problem or ''}"
                    )

                def has_all(peer=peer, part=part):
                    # What was read before a gap may be longer than what is behind it.
                    return len(peer.lives()) > gaps and len(peer.lives()[of]) >= len(part)

                until(has_all, shown)
                if peer.lives()[of] != part or len(peer.lives()) != gaps + 1:
                    raise Failed(shown())
                if peer.problem:
                    raise Failed(peer.problem)

    def is_present(self, phase, names, limit=LEAVING):
        with self.tally.case(f"{self.kind}: {phase}: presence"):
            seen = []

            def holds():
                seen[:] = [(one["name"], one["sessions"]) for one in self.ask("/presence")["members"]]
                return sorted(seen) == sorted((name, 1) for name in names)

            until(holds, lambda: f"there are {seen}, not {sorted(names)}", limit)


def expect(said, peers, phase, rounds):
    """Notes what was said."""
    said += [SAID.format(name=peer.name, phase=phase, n=n) for peer in peers for n in range(rounds)]


def through(room):
    """The room from its first message to its last."""
    tally, kind = room.tally, room.kind
    room.start()
    said = [f"before everybody {n}" for n in range(5)]
    for text in said:
        room.ask("", text.encode())
    room.let_in()
    everybody = list(room.peers.values())
    members = [peer.name for peer in everybody if peer.name in MEMBERS]
    room.is_present("at the beginning", members)

    expect(said, everybody, "all", room.talk(everybody, "all", EACH))
    room.see("one order", room.settle(said))

    # The line of each is cut once, in two groups, in the middle of a message; the others go on.
    for group in (("rsock", "console", "page", "polling"), ("ws", "websockets", "events", "module", "java")):
        lost = [peer for peer in everybody if peer.name in group]
        others = room.others(group)
        for peer in lost:
            peer.line.cut_behind(BEHIND)
        are_cut = lambda lost=lost: all(peer.line.is_down.is_set() for peer in lost)  # noqa: E731
        phase = f"cut-{group[0]}"
        expect(said, others, phase, room.talk(others, phase, 100, are_cut))
        if not are_cut():
            tally.fail(f"{kind}: cut", f"not {[peer.name for peer in lost if not peer.line.is_down.is_set()]}")
        expect(said, others, f"down-{group[0]}", room.talk(others, f"down-{group[0]}", 2))
        for peer in lost:
            peer.line.mend()
        room.see(f"without {', '.join(peer.name for peer in lost)} for a while", room.settle(said))
    expect(said, everybody, "back", room.talk(everybody, "back", 2))
    room.see("all lines mended", room.settle(said))
    room.is_present("all lines mended", members)

    before = room.log()
    with_ids = [peer for peer in everybody if peer.name in HAVE_IDS]
    for peer in everybody:
        peer.joined.clear()
    publishing = threading.Thread(target=room.talk, args=(with_ids, "killed", WHILE_KILLED), kwargs={"pace": 0.25})
    publishing.start()
    until(lambda: len(room.log()) > len(before) + len(with_ids), "nothing is said")
    room.kill()
    room.start()
    publishing.join()
    # Those without ids speak when they are back.
    for peer in everybody:
        if peer not in with_ids and not peer.joined.wait(LIMIT):
            tally.fail(f"{kind}: killed and started again", f"{peer.name} is not back")
    expect(said, with_ids, "killed", WHILE_KILLED)
    if kind == "durable":
        room.see("killed and started again", room.settle(said))
        expect(said, everybody, "after", room.talk(everybody, "after", 2))
        room.see("a word from all after that", room.settle(said))
    else:
        anew(room, before)
    room.is_present("killed and started again", members)

    leave(room, members)


def anew(room, before):
    """A room that ends with its process: everybody is told so, and reads all of what follows."""
    everybody = list(room.peers.values())
    for peer in everybody:
        peer.say("anew", 0)
    until(lambda: sum(" anew " in text for _, text in room.log()) == len(everybody), "not all are back")
    log = room.log()
    texts = [text for _, text in log]
    with room.tally.case(f"{room.kind}: killed and started again: once"):
        if len(set(texts)) != len(texts):
            raise Failed(f"twice: {Room.absent([], log)}")
    room.see("killed and started again, and told so", log, gaps=1)
    longest = max((peer.lives()[0] for peer in everybody if peer.has_own), key=len)
    for peer in everybody:
        with room.tally.case(f"{room.kind}: what was before: {peer.name}"):
            first = peer.lives()[0]
            if first != peer.part(longest)[: len(first)] or len(first) < len(peer.part(before)):
                raise Failed(f"{len(first)} messages, at the end {first[-3:]}")


def overrun(room):
    """A room that keeps little: who comes back too late is told what is missing, and has all the rest."""
    room.start()
    everything = []

    def publish(count):
        for _ in range(count):
            text = f"{len(everything)} 한"
            everything.append((room.ask("", text.encode())["offset"], text))

    publish(3)
    room.let_in()
    for peer in room.peers.values():
        peer.line.cut_behind(BEHIND)
    for _ in range(30):
        if all(peer.line.is_down.is_set() for peer in room.peers.values()):
            break
        publish(1)
    last = everything[-1]
    publish(60)
    # What is younger than two seconds is kept, however much it is.
    time.sleep(2.2)
    publish(5)
    if room.log()[0][0] <= last[0] + 1:
        raise Failed(f"the room keeps {len(room.log())} messages of {len(everything)}")
    for peer in room.peers.values():
        peer.line.mend()
    for peer in room.peers.values():
        with room.tally.case(f"overrun: {peer.name}"):
            until(lambda peer=peer: everything[-1] in peer.events, lambda peer=peer: f"it has {peer.events[-6:]}")
            if at := told_of_all(peer, everything):
                raise Failed(f"{at}; {peer.problem or ''}")


def told_of_all(peer, everything):
    """Where it was not told of a message, or of its loss; nothing where it was."""
    rest, gaps, may_miss = list(everything), 0, False
    for event in peer.events:
        if event is None:
            gaps, may_miss = gaps + 1, True
            continue
        if event not in rest:
            return f"{event} is twice, or in the wrong order"
        missed = rest.index(event)
        if bool(missed) != may_miss:
            return f"before {event} {missed} are missing, and a gap {'was' if may_miss else 'was not'} told"
        rest, may_miss = rest[missed + 1 :], False
    if rest or may_miss:
        return f"not {rest[:3]}"
    if not gaps and peer.name not in RESUMES:
        return "it has all, which it cannot"
    return None


def leave(room, members):
    """Two leave, one is killed, and then all leave: who is gone is not shown."""
    watcher = next(iter(room.peers.values()))
    gone = [name for name in ("ws", "websockets", "page") if name in members]
    for name in gone:
        if name == "websockets":
            end(room.processes[name].process)
        else:
            room.peers[name].leave()
    left = [name for name in members if name not in gone]
    room.is_present(f"{', '.join(gone)} gone", left)
    with room.tally.case(f"{room.kind}: {watcher.name} is told who left"):
        told = lambda: {name for event, name in watcher.told if event == "leave"}  # noqa: E731
        until(lambda: told() >= set(gone), lambda: f"it was told {watcher.told[-8:]}")
        if told() - set(gone):
            raise Failed(f"of {told() - set(gone)}, who were gone for a moment")
    for name in left:
        room.peers[name].leave()
    room.is_present("all gone", [])


def seeds(setting):
    """The program of a recipe for WebSockets: against /echo, and at another address a chat with history."""
    clients = {}
    if setting.node:
        clients["ws"] = [setting.node, setting.work / "seeds.mjs", "node"]
    if setting.python:
        clients["websockets"] = [setting.python, "-B", HERE / "seeds.py"]
    if setting.node and setting.browser:
        clients["page"] = [setting.node, setting.work / "seeds.mjs", setting.browser]
    folder = setting.work / "seeds"
    folder.mkdir()
    words = [setting.rsockd, "--listen", "ws://127.0.0.1:0/rsocket", "--log", "warn"]
    with Service("rsockd", words, {"ws"}, folder) as service:
        url = service.uris["ws"].removesuffix("/rsocket")
        said = []
        for name, command in clients.items():
            texts = [f"hello from {name}", f"{name} 한"]
            for path, expected in (("/echo", texts), (f"/ws/topics/chat.1?name={name}&last=50", [*said, *texts])):
                with setting.tally.case(f"seeds: {path.split('?')[0]}: {name}"):
                    arguments = [*command, url + path, len(expected), *texts]
                    done = subprocess.run(list(map(str, arguments)), capture_output=True, text=True, timeout=LIMIT)
                    if done.returncode != 0 or json.loads(done.stdout) != expected:
                        raise Failed(f"it heard {done.stdout.rstrip()}, not {expected}; {done.stderr[-600:]}")
            said += texts


def one_room(setting, kind):
    try:
        if kind == "seeds":
            return seeds(setting)
        with contextlib.ExitStack() as ends:
            room = Room(setting, kind, ends)
            ends.callback(room.stop)
            (overrun if kind == "overrun" else through)(room)
    except (Broken, Failed) as error:
        setting.tally.fail(kind, error)
    except Exception:
        setting.tally.fail(kind, traceback.format_exc())


def main():
    parser = argparse.ArgumentParser(prog="run", description="One room by every way at once.")
    parser.add_argument("--rsockd", type=Path, metavar="PATH", help="the service to start; rsock is beside it")
    parser.add_argument("--only", metavar="NAME,…", help="those who are in the room; all")
    parser.add_argument("kinds", nargs="*", choices=[[], *KINDS], help="the kind of the room, or the program of a recipe; all")
    options = parser.parse_args()
    target = Path(os.environ.get("CARGO_TARGET_DIR") or ROOT / "target")
    rsockd = (options.rsockd or target / "debug" / "rsockd").absolute()
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    cache = Path(os.environ.get("RSOCK_INTEROP_CACHE") or Path(home) / "rsock-interop").absolute()
    tally = Tally()
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="rsock-room-") as work:
        try:
            for program in (rsockd, rsockd.with_name("rsock")):
                if not os.access(program, os.X_OK):
                    raise Broken(f"no program at {program}; `cargo build` makes it")
            setting = Setting(rsockd, cache, Path(work), tally)
            setting.only = options.only and options.only.split(",")
            # They wait more than they work: all kinds at once.
            rooms = [
                threading.Thread(target=one_room, args=(setting, kind)) for kind in options.kinds or KINDS
            ]
            for each in rooms:
                each.start()
            for each in rooms:
                each.join()
        except (Broken, Failed) as error:
            tally.fail("room", error)
    say(f"{time.monotonic() - began:.0f} s")
    print(f"room: {tally.ok} passed, {tally.failed} failed, {tally.skipped} skipped", flush=True)
    return 1 if tally.failed else 0


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    sys.exit(main())
