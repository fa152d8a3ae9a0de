"""Real peers over TLS, with credentials: a service that lets nobody in who does not say who they are."""

import base64
import hashlib
import hmac
import json
import os
import subprocess
import time
from urllib.parse import urlsplit

from cutting import CuttingProxy
from programs import Broken, Service

LISTEN = {"tls": "tls://127.0.0.1:0", "wss": "wss://127.0.0.1:0/rsocket"}

# Each interaction, what is large, what is cancelled, and a topic. All others are run in clear.
CASES = ["rr-echo", "rr-1mib", "rs-range", "rs-cancel", "rc-echo", "fnf", "metadata-push", "topic-subscribe"]
OF_PEER = {
    # Its data have types, and it has no topics of its own.
    "spring": ["rr-text", "rr-cbor", *CASES[1:-1]],
    "rust": CASES[:-1],
}
ONE_CASE = {"spring": "rr-text"}

# Connection by connection, as in `cutting`: in the middle of records, and after the handshake, which
# takes a few thousand bytes.
CUTS = [("down", 20_011), ("up", 3_007), ("down", 40_009), ("down", 30_011), ("up", 2_003)]
# And in the middle of handshakes.
CUTS_ANYWHERE = [*CUTS[:2], ("down", 700), ("up", 100), *CUTS[2:]]
RESUMING = {"java": ("tls", CUTS_ANYWHERE), "js0": ("wss", CUTS_ANYWHERE), "js1": ("tls", CUTS)}

NAME, PASSWORD, SECRET = "ann", "correct-horse", "0123456789abcdef0123456789abcdef"
ACCESS = """
[auth.users]
file = "users"

[auth.jwt]
keys = [{ alg = "HS256", secret = "%s" }]

[[grant]]
roles = ["chat"]
routes = ["echo", "range", "status"]

[[grant]]
roles = ["chat"]
topics = ["interop.>"]
allow = ["publish", "publish-as", "subscribe", "join", "presence", "history"]
"""


def token(secret):
    """A signed token (JWT) of a user with the role `chat`."""

    def encoded(content):
        return base64.urlsafe_b64encode(content).rstrip(b"=")

    claims = {"sub": NAME, "exp": int(time.time()) + 3_600, "roles": ["chat"]}
    parts = [{"alg": "HS256", "typ": "JWT"}, claims]
    signed = b".".join(encoded(json.dumps(part).encode()) for part in parts)
    signature = hmac.new(secret.encode(), signed, hashlib.sha256).digest()
    return b".".join([signed, encoded(signature)]).decode()


def right():
    return {"simple": f"simple:{NAME}:{PASSWORD}", "bearer": f"bearer:{token(SECRET)}"}


def wrong():
    return {"simple": f"simple:{NAME}:battery-staple", "bearer": f"bearer:{token(SECRET[::-1])}"}


class Secured:
    """Certificates, users and the flags of a service that has both."""

    def __init__(self, rsockd, rsock, work):
        self.rsockd, self.work = rsockd, work
        folder = work / "secured"
        self.authority = folder / "ca.pem"
        make([rsock, "cert", "dev", "--dir", folder])
        make([rsockd, "user", "add", folder / "users", NAME, "--roles", "chat"], PASSWORD)
        access = folder / "access.toml"
        access.write_text(ACCESS % SECRET)
        access.chmod(0o600)
        self.flags = ["--tls-cert", folder / "cert.pem", "--tls-key", folder / "key.pem"]
        self.flags += ["--access", access]

    def service(self):
        listen = [word for uri in LISTEN.values() for word in ("--listen", uri)]
        return Service("rsockd", [self.rsockd, *listen, *self.flags], LISTEN, self.work)

    def environment(self, credentials, trusting=True):
        """What a peer is told; all but Rust's and Go's know the file by a setting of their own."""
        told = {**os.environ, "INTEROP_AUTH": credentials}
        if trusting:
            told |= {"INTEROP_CA": str(self.authority), "SSL_CERT_FILE": str(self.authority)}
        return told


def make(arguments, typed=""):
    done = subprocess.run(
        [str(argument) for argument in arguments],
        input=typed,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise Broken(f"{arguments[0]} {arguments[1]} failed:\n{done.stdout.rstrip()}")


def by_name(uri):
    """The URI with the name that the certificate has."""
    return uri.replace("127.0.0.1", "localhost", 1)


def run(peers, secured, run_peer, run_untrusting, watching, tally):
    """Every peer's client. Each has a service of its own: guesses are slowed by the client's address."""
    for peer in peers:
        if not peer.has("client") or peer.name == "transport-test":
            continue
        one = [ONE_CASE.get(peer.name, "rr-echo")]
        all_cases = OF_PEER.get(peer.name, CASES)
        with secured.service() as service, watching(service):
            uris = {transport: by_name(uri) for transport, uri in service.uris.items()}

            def told(transport, kind, credentials, cases):
                where = f"{transport} {kind}"
                environment = secured.environment(credentials[kind])
                run_peer(peer, where, uris[transport], tally, cases, environment)

            told("tls", "simple", right(), all_cases)
            told("wss", "bearer", right(), all_cases)
            told("tls", "bearer", right(), one)
            told("wss", "simple", right(), one)
            told("tls", "simple", wrong(), ["setup-refused"])
            told("wss", "bearer", wrong(), ["setup-refused"])
            untrusting = secured.environment(right()["simple"], trusting=False)
            for transport, uri in sorted(uris.items()):
                run_untrusting(peer, transport, uri, one, untrusting, tally)
            if peer.name in RESUMING:
                resume(peer, service, secured, run_peer, tally)


def resume(peer, service, secured, run_peer, tally):
    """A session that goes on behind TLS, though its line is cut without a farewell."""
    transport, cuts = RESUMING[peer.name]
    parts = urlsplit(service.uris[transport])
    with CuttingProxy(parts.hostname, parts.port, cuts) as proxy:
        way = parts._replace(netloc="localhost:{1}".format(*proxy.address)).geturl()
        environment = secured.environment(right()["simple"])
        run_peer(peer, f"{transport} simple", way, tally, ["resume-stream"], environment)
        if proxy.cut != len(cuts):
            text = f": {proxy.cut} cuts of {len(cuts)}"
            tally.line(f"{peer.name} {transport}", "FAIL", "cuts", text)
