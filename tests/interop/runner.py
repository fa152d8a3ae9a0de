"""Runs the pinned real peers against rsockd, and rsock against the peers' servers.

Standard library only; start it through `run` beside it. README.md has the use.
"""

import argparse
import contextlib
import os
import re
import signal
import sys
import tempfile
from pathlib import Path
from urllib.parse import urlsplit

import command_line
import secured
import spring_server
import transport_test
from cutting import CUTS, CUTS_IN_STREAMS, CuttingProxy
from peers import PEERS, Missing
from programs import Broken, Service, run_client, say

ROOT = Path(__file__).resolve().parent.parent.parent
IN_CI = os.environ.get("CI") == "true"

CLIENT_LIMIT = 240
EXAMPLE_LIMIT = 30

CASE_LINE = re.compile(r"(ok|skip|FAIL) ([\w-]+)(?:: .*)?$")
UNTRUSTED = re.compile(r"certificat|PKIX path", re.IGNORECASE)
QUICKSTART_OUTPUT = ["echo: hello", "range: 0 1 2 3 4 5 6 7 8 9"]
EXAMPLE_OUTPUT = [*QUICKSTART_OUTPUT, "channel: one two three"]
# Whose program in examples/ takes a WebSocket's address as well.
EXAMPLES_OVER_WS = {"go", "rsock"}
CHATS_OVER_WS = {"go"}

# What stands for all peers' clients over TLS, and nothing else.
TLS = "tls"

LISTEN = {"tcp": "tcp://127.0.0.1:0", "ws": "ws://127.0.0.1:0/rsocket"}

# What needs a service of its own: its flags, and for each peer that can do it
# the cases and the cuts of its line. A client of rsocket-js 1.0 alpha gives up
# when it loses a transport before RESUME_OK.
SPECIAL = [
    (
        ["--lease", "8"],
        {
            "go": (["lease"], []),
            "java": (["lease", "lease-runs-out"], []),
            "js0": (["lease"], []),
            "js1": (["lease"], []),
            "py": (["lease"], []),
        },
    ),
    (["--lease", "8"], {"java": (["resume-leased"], CUTS)}),
    (
        [],
        {
            "java": (["resume-stream"], CUTS),
            "js0": (["resume-stream"], CUTS),
            "js1": (["resume-stream"], CUTS_IN_STREAMS),
        },
    ),
]


# The cases against a server of our own: it asks for credentials and rejects
# connections, which rsockd does not, and has items larger than rsockd gives.
GUARDED = {
    "go": ["setup-rejected", "rs-20mib"],
    "java": ["setup-rejected", "rs-20mib"],
    "js0": ["setup-rejected", "rs-20mib"],
    "js1": ["setup-rejected", "rs-20mib"],
    "py": ["setup-rejected", "rs-20mib"],
    "rust": ["setup-rejected", "rs-20mib"],
    "spring": [
        "setup-rejected",
        *("setup-simple", "setup-bearer", "setup-simple-wrong", "setup-bearer-wrong"),
        *("request-simple", "request-bearer", "request-simple-wrong", "request-bearer-wrong"),
        *("request-over-setup", "no-credentials"),
    ],
}

# Cases of `rsock` against one peer's server.
OWN_CASES = {"spring": spring_server.CASES}


class Tally:
    def __init__(self):
        self.counts = {"ok": 0, "FAIL": 0, "skip": 0}

    def line(self, where, word, name, rest=""):
        self.counts[word] += 1
        print(f"{where} {word} {name}{rest}", flush=True)

    def summary(self):
        ok, failed, skipped = (self.counts[word] for word in ("ok", "FAIL", "skip"))
        return f"interop: {ok} passed, {failed} failed, {skipped} skipped"


def rsockd_service(rsockd, flags, work):
    listen = [word for uri in LISTEN.values() for word in ("--listen", uri)]
    return Service("rsockd", [rsockd, *listen, *flags], LISTEN, work)


def run_peer(peer, transport, uri, tally, cases=(), environment=None):
    """Runs a peer's client: its plain cases, or the named ones."""
    where = f"{peer.name} {transport}"
    failed_before = tally.counts["FAIL"]
    seen = 0

    def case_line(line):
        nonlocal seen
        found = CASE_LINE.match(line)
        if found is None:
            print(f"{where} # {line}", flush=True)
            return
        seen += 1
        tally.line(where, found[1], found[2], line[found.end(2) :])

    arguments = [*peer.command("client"), uri, *cases]
    code, errors = run_client(arguments, CLIENT_LIMIT, case_line, environment=environment)
    reported = tally.counts["FAIL"] - failed_before
    if code is None:
        tally.line(where, "FAIL", "client", f": no end after {CLIENT_LIMIT} s")
    elif code != 0 and reported == 0:
        tally.line(where, "FAIL", "client", f": exit code {code} without a failed case")
    elif seen == 0:
        tally.line(where, "FAIL", "client", ": it ran no case")
    show_errors(where, errors, tally.counts["FAIL"] > failed_before)


def run_untrusting(peer, transport, uri, cases, environment, tally):
    """Runs a peer's client that does not know who has signed the service's certificate."""
    where, said = f"{peer.name} {transport}", []
    arguments = [*peer.command("client"), uri, *cases]
    code, errors = run_client(arguments, CLIENT_LIMIT, said.append, environment=environment)
    if code and any(line.startswith("FAIL ") and UNTRUSTED.search(line) for line in said):
        tally.line(where, "ok", "untrusted")
    else:
        tally.line(where, "FAIL", "untrusted", f": exit code {code}, it said {said}")
        show_errors(where, errors, True)


def run_shown(peer, script, wanted, transport, uri, tally):
    """Runs a program that readers copy: a quickstart, or one of examples/."""
    where = f"{peer.name} {transport}"
    output = []
    code, errors = run_client([*peer.command(script), uri], EXAMPLE_LIMIT, output.append)
    if code == 0 and output == wanted:
        tally.line(where, "ok", script)
    else:
        how = f"no end after {EXAMPLE_LIMIT} s" if code is None else f"exit code {code}"
        tally.line(where, "FAIL", script, f": {how}, it said {output}")
        show_errors(where, errors, True)


def run_chat(peer, transport, uri, tally):
    """Runs the chat of examples/: what one member says in the room, a later one is shown."""
    where = f"{peer.name} {transport}"
    said = f"hello from {peer.name} over {transport}"
    output = []
    for name, typed in (("ann", f"{said}\n"), ("bob", "")):
        output.clear()
        arguments = [*peer.command("chat"), name, uri]
        code, errors = run_client(arguments, EXAMPLE_LIMIT, output.append, typed)
        if code != 0:
            how = f"no end after {EXAMPLE_LIMIT} s" if code is None else f"exit code {code}"
            tally.line(where, "FAIL", "chat", f": {name} has {how}, it said {output}")
            show_errors(where, errors, True)
            return
    if f"ann: {said}" in output:
        tally.line(where, "ok", "chat")
    else:
        tally.line(where, "FAIL", "chat", f": bob was shown {output}")


def show_errors(where, errors, wanted):
    if wanted:
        for line in errors.splitlines()[-40:]:
            print(f"{where} # {line}", flush=True)


def program(name, release):
    target = Path(os.environ.get("CARGO_TARGET_DIR") or ROOT / "target")
    return target / ("release" if release else "debug") / name


def main():
    parser = argparse.ArgumentParser(
        prog="run", description="Runs real peers against rsockd, and rsock against theirs."
    )
    parser.add_argument("--rsockd", type=Path, metavar="PATH", help="the service to start")
    parser.add_argument(
        "--rsock", type=Path, metavar="PATH", help="the command line; beside the service"
    )
    parser.add_argument("--release", action="store_true", help="those from target/release")
    names = f"of {', '.join(PEERS)}; all"
    parser.add_argument(
        "peers", nargs="*", metavar="PEER", help=f"{names}. `{TLS}` before them: over TLS alone"
    )
    options = parser.parse_args()
    only_tls = TLS in options.peers
    named = [name for name in options.peers if name != TLS]
    unknown = [name for name in named if name not in PEERS]
    if unknown:
        parser.error(f"no peer is called {unknown[0]}; there are {', '.join(PEERS)}")
    peers = [PEERS[name] for name in dict.fromkeys(named or PEERS)]
    rsockd = (options.rsockd or program("rsockd", options.release)).absolute()
    rsock = (options.rsock or rsockd.with_name("rsock")).absolute()
    for path, flag in ((rsockd, "--rsockd"), (rsock, "--rsock")):
        if not os.access(path, os.X_OK) or path.is_dir():
            parser.error(f"no program at {path}; build it with `cargo build` or give {flag} PATH")
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    cache = Path(os.environ.get("RSOCK_INTEROP_CACHE") or Path(home) / "rsock-interop")

    tally = Tally()
    with tempfile.TemporaryDirectory(prefix="rsock-interop-") as work:
        work = Path(work)
        ready = prepare(peers, cache.absolute(), work, tally)
        try:
            if ready and not only_tls:
                run_clients(ready, rsockd, work, tally)
                run_special(ready, rsockd, work, tally)
                run_guarded(ready, rsockd.with_name("guarded-server"), work, tally)
                server = rsockd.with_name("transport-test-server")
                run_transport_test(ready, server, work, tally)
            if ready:
                run_secured(ready, secured.Secured(rsockd, rsock, work), tally)
        except Broken as error:
            say(str(error))
            tally.line("rsockd", "FAIL", "start")
        if not only_tls:
            run_servers(ready, rsock, work, tally)
    print(tally.summary(), flush=True)
    return 1 if tally.counts["FAIL"] else 0


def prepare(peers, cache, work, tally):
    ready = []
    for peer in peers:
        try:
            peer.prepare(cache, work)
            ready.append(peer)
        except Missing as error:
            say(f"{error}, so {peer.name} DOES NOT RUN")
            tally.line(peer.name, "FAIL" if IN_CI else "skip", "toolchain", f": {error}")
        except Broken as error:
            say(str(error))
            tally.line(peer.name, "FAIL", "install")
    return ready


def run_clients(peers, rsockd, work, tally):
    """Every peer's client against rsockd as it starts by itself."""
    with rsockd_service(rsockd, [], work) as service:
        for peer in peers:
            if peer.has("client"):
                for transport, uri in sorted(service.uris.items()):
                    with words_on_failure(service, tally):
                        run_peer(peer, transport, uri, tally)
            for script, wanted in (("quickstart", QUICKSTART_OUTPUT), ("example", EXAMPLE_OUTPUT)):
                if not peer.has(script):
                    continue
                over_ws = script == "example" and peer.name in EXAMPLES_OVER_WS
                for transport in ("tcp", "ws") if over_ws else ("tcp",):
                    with words_on_failure(service, tally):
                        uri = service.uris[transport]
                        run_shown(peer, script, wanted, transport, uri, tally)
            if peer.has("chat"):
                for transport in ("tcp", "ws") if peer.name in CHATS_OVER_WS else ("tcp",):
                    with words_on_failure(service, tally):
                        run_chat(peer, transport, service.uris[transport], tally)


def run_guarded(peers, server, work, tally):
    """Clients with credentials against a server that asks for them."""
    wanted = [peer for peer in peers if peer.name in GUARDED]
    if not wanted:
        return
    with Service("guarded-server", [server, *LISTEN.values()], LISTEN, work) as service:
        for peer in wanted:
            for transport, uri in sorted(service.uris.items()):
                with words_on_failure(service, tally):
                    run_peer(peer, transport, uri, tally, GUARDED[peer.name])


def run_secured(peers, setting, tally):
    """Every peer's client over TLS, with credentials."""
    secured.run(
        peers, setting, run_peer, run_untrusting, lambda one: words_on_failure(one, tally), tally
    )


def run_transport_test(peers, server, work, tally):
    for peer in peers:
        if peer.name == "transport-test":
            transport_test.run(peer, server, work, tally)


def run_special(peers, rsockd, work, tally):
    for flags, by_peer in SPECIAL:
        wanted = [peer for peer in peers if peer.name in by_peer]
        if not wanted:
            continue
        with rsockd_service(rsockd, flags, work) as service:
            for peer in wanted:
                cases, cuts = by_peer[peer.name]
                for transport, uri in sorted(service.uris.items()):
                    parts = urlsplit(uri)
                    proxy = CuttingProxy(parts.hostname, parts.port, cuts)
                    way = parts._replace(netloc="{}:{}".format(*proxy.address)).geturl()
                    with words_on_failure(service, tally), proxy:
                        run_peer(peer, transport, way, tally, cases)
                        if proxy.cut != len(cuts):
                            text = f": {proxy.cut} cuts of {len(cuts)}"
                            tally.line(f"{peer.name} {transport}", "FAIL", "cuts", text)


@contextlib.contextmanager
def words_on_failure(service, tally):
    failed_before = tally.counts["FAIL"]
    yield
    if not service.is_running():
        code = service.process.wait()
        tally.line(service.name, "FAIL", "alive", f": it ended with {code}")
        raise Broken(service.last_words())
    if tally.counts["FAIL"] > failed_before:
        print(service.last_words(), flush=True)


def run_servers(peers, rsock, work, tally):
    """Our command line against every peer's server."""
    for peer in peers:
        if not peer.has("server"):
            continue
        try:
            for flags, cases in command_line.GROUPS:
                if command_line.skips(peer.name, flags):
                    continue
                if not flags:
                    cases = cases | OWN_CASES.get(peer.name, {})
                arguments = [*peer.command("server"), *flags, *LISTEN.values()]
                with Service(f"{peer.name}-server", arguments, LISTEN, work) as service:
                    for transport in sorted(service.uris):
                        with words_on_failure(service, tally):
                            command_line.run_cases(
                                rsock, peer.name, transport, cases, service, tally
                            )
        except Broken as error:
            say(str(error))
            tally.line(f"rsock {peer.name}", "FAIL", "start")


if __name__ == "__main__":
    # An interrupted run still ends what it started.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    sys.exit(main())
