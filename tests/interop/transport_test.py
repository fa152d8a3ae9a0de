"""rsocket-test's TransportTest, its client against a server of ours: the six ways it is run in."""

import contextlib
import re

from programs import Service, run_client

LIMIT = 420
LISTEN = {"tcp": "tcp://127.0.0.1:0", "ws": "ws://127.0.0.1:0/rsocket"}

# A server for each: all that a client with the name as a property needs to know.
SERVERS = {"plain": [], "fragmented": ["mtu=64"], "resumed": ["resume"]}
VARIANTS = 6

CASE_LINE = re.compile(r"(ok|skip|FAIL) ([A-Za-z]+)-(\w+)(?:: (.*))?$")

# Cases that fail, or are not run, and why.
DIFFERENCES = {
    "requestChannel3": "it wants a responder to ask for no more than it was asked for, 3; "
    "how much a responder asks for is its own affair (RC-20), and ours asks for its window, 256",
}
NOT_RUN = {
    "requestChannel2_000_000": "it asks to be left out where time is short",
    "metadataPush10": "it is left out with resume, which does not cover METADATA_PUSH",
    "largePayloadMetadataPush10": "the same",
}


def run(peer, server, work, tally):
    variants = set()

    def case_line(line):
        found = CASE_LINE.match(line)
        if found is None:
            print(f"{peer.name} # {line}", flush=True)
            return
        word, variant, case, rest = found.groups()
        variants.add(variant)
        judge(f"{peer.name} {variant}", word, case, rest or "", tally)

    with contextlib.ExitStack() as stack:
        properties = []
        for name, settings in SERVERS.items():
            arguments = [server, *settings, *LISTEN.values()]
            service = Service(f"transport-test-server-{name}", arguments, LISTEN, work)
            for transport, uri in stack.enter_context(service).uris.items():
                properties.append(f"-Drsock.{name}.{transport}={uri}")
        failed_before = tally.counts["FAIL"]
        # It is long enough for both compilers.
        command = peer.command("run", "-XX:TieredStopAtLevel=4", "-Xmx1g", *properties)
        code, errors = run_client(command, LIMIT, case_line)
    if code is None:
        tally.line(peer.name, "FAIL", "run", f": no end after {LIMIT} s")
    elif len(variants) != VARIANTS:
        tally.line(peer.name, "FAIL", "run", f": of {VARIANTS} ways only {sorted(variants)}")
    if tally.counts["FAIL"] > failed_before:
        for line in errors.splitlines()[-40:]:
            print(f"{peer.name} # {line}", flush=True)


def judge(where, word, case, rest, tally):
    """Counts a line: what is expected to differ has to, and nothing else is left out."""
    known = DIFFERENCES.get(case)
    if word == "FAIL" and known:
        tally.line(where, "skip", case, f": {known} (expected difference)")
    elif word == "ok" and known:
        tally.line(where, "FAIL", case, f": it passes, and is listed as: {known}")
    elif word == "skip" and case in NOT_RUN:
        tally.line(where, "skip", case, f": {NOT_RUN[case]}")
    elif word == "skip":
        tally.line(where, "FAIL", case, f": it was left out: {rest}")
    else:
        tally.line(where, word, case, f": {rest}" if rest else "")
