"""HAProxy and nginx in front of rsockd: interactions, whose connection it is, silence, and resuming.

Standard library only. Debian: haproxy nginx-light libnginx-mod-stream.
"""

import argparse
import contextlib
import json
import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
sys.path.insert(0, str(HERE.parent / "interop"))

from cutting import CuttingProxy  # noqa: E402
from programs import Broken, Service, end  # noqa: E402

IN_CI = os.environ.get("CI") == "true"
FILES = ROOT / "packaging" / "proxies"
# Where the proxy comes from, so that it is told from clients, which come from 127.0.0.1.
PROXY = "127.0.0.9"
LIMIT = 20

ACCESS = """
[auth]
anonymous = ["guest"]
[auth.users]
file = "users"
[[grant]]
roles = ["guest"]
routes = ["echo", "range", "status"]
[[grant]]
roles = ["guest"]
topics = ["feed"]
allow = ["subscribe", "publish"]
"""

# The ports that the files have, with the scheme and path of what is there.
HAPROXY = {7878: ("tcp", ""), 7880: ("tls", ""), 7881: ("tls", ""), 7443: ("wss", "/rsocket")}
NGINX = {7878: ("tcp", ""), 7881: ("tls", ""), 7443: ("wss", "/rsocket"), 7444: ("wss", "/rsocket")}


# Fronts that have the gateway behind them.
GATEWAY = {"haproxy": (7443,), "nginx": (7443, 7444)}
# Seconds within which an event is there that nobody holds back, and how often one may be late on a busy machine.
SOON, TRIES = 0.1, 20


class Failed(Exception):
    """A case that did not hold."""


def check(condition, otherwise):
    if not condition:
        raise Failed(otherwise)


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


class Setting:
    """Certificates, and the two services that proxies pass connections on to."""

    def __init__(self, rsockd, rsock, work):
        self.rsockd, self.rsock, self.work = rsockd, rsock, work
        self.certs = work / "certs"
        subprocess.run([rsock, "cert", "dev", "--dir", self.certs], check=True, stdout=subprocess.DEVNULL)
        both = (self.certs / "cert.pem").read_text() + (self.certs / "key.pem").read_text()
        (self.certs / "both.pem").write_text(both)
        (work / "access.toml").write_text(ACCESS)
        words = [rsockd, "user", "add", work / "users", "ann"]
        subprocess.run(words, input="correct horse", text=True, check=True, stdout=subprocess.DEVNULL)
        self.audit = work / "audit.json"

    def services(self):
        """One that trusts the proxy's word, and one that asks for none."""
        uris = {"tcp": "tcp://127.0.0.1:0", "ws": "ws://127.0.0.1:0/rsocket", "tls": "tls://127.0.0.1:0"}
        common = ["--access", self.work / "access.toml", "--audit", self.audit, "--log", "warn"]
        listen = [word for uri in uris.values() for word in ("--listen", uri)]
        tls = ["--tls-cert", self.certs / "cert.pem", "--tls-key", self.certs / "key.pem"]
        trust = ["--proxy-protocol", "any", "--proxy-trust", PROXY]
        behind = Service("rsockd", [self.rsockd, *listen, *tls, *trust, *common], uris, self.work)
        # Without it, requests that were passed on are refused: not everybody is asked who they are.
        plain = ["--listen", uris["ws"], "--proxy-trust", PROXY, *common]
        plain += ["--client-address", "x-forwarded-for"]
        beside = Service("rsockd-beside", [self.rsockd, *plain], {"ws": ""}, self.work)
        return behind, beside

    def run(self, *words, limit=LIMIT):
        command = [str(self.rsock), *map(str, words)]
        return subprocess.run(command, capture_output=True, text=True, timeout=limit, check=False)

    def ask(self, command, uri, *words):
        trust = [] if uri.startswith("tcp") else ["--ca", self.certs / "ca.pem"]
        return self.run(command, uri, *trust, *words)


def configured(name, ports, certs, silence):
    """The file that people copy, with ports that are free here, and silences that are over soon."""
    text = (FILES / name).read_text()
    for old, new in ports.items():
        text, count = re.subn(rf"(?<=[ :]){old}(?=[ ;\n])", str(new), text)
        check(count > 0, f"{name} has no port {old}")
    text = text.replace("/etc/haproxy/cert.pem", str(certs / "both.pem"))
    text = text.replace("/etc/nginx/", f"{certs}/")
    return re.sub(r"(?<= )1m\b", silence, text)


def port_of(uri):
    return int(re.search(r":(\d+)", uri.split("//")[1])[1])


@contextlib.contextmanager
def proxy(name, setting, services, silence):
    """A proxy that runs; gives its ports by those of the file."""
    behind, beside = (service.uris for service in services)
    fronts = HAPROXY if name == "haproxy" else NGINX
    ports = {port: free_port() for port in fronts}
    ports |= {17878: port_of(behind["tcp"]), 17879: port_of(behind["ws"])}
    ports |= {17880: port_of(behind["tls"])} if name == "haproxy" else {17889: port_of(beside["ws"])}
    folder = setting.work / f"{name}-{silence}"
    folder.mkdir()
    file = "haproxy.cfg" if name == "haproxy" else "nginx.conf"
    text = configured(file, ports, setting.certs, silence)
    if name == "haproxy":
        text = re.sub(r"(server rsockd .*)", rf"\1 source {PROXY}", text)
        command = ["haproxy", "-db", "-f", folder / file]
    else:
        text = text.replace("proxy_protocol on;", f"proxy_protocol on;\n    proxy_bind {PROXY};")
        text = text.replace("proxy_http_version", f"proxy_bind {PROXY};\n            proxy_http_version")
        text = text.replace("modules/", "/usr/lib/nginx/modules/")
        temporary = [f"{kind}_temp_path {folder}/{kind};" for kind in
                     ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")]
        text = text.replace("http {", "http {\n    access_log off;\n    " + "\n    ".join(temporary))
        text = f"daemon off;\npid {folder}/pid;\nerror_log stderr;\n{text}"
        command = ["nginx", "-p", folder, "-c", folder / file, "-e", "stderr"]
    (folder / file).write_text(text)
    with open(folder / "log", "w") as log:
        process = subprocess.Popen(
            [str(word) for word in command], stdout=log, stderr=log, start_new_session=True
        )
    try:
        for port in fronts:
            wait_for_port(ports[port], process, folder / "log")
        yield ports
    finally:
        end(process)


def wait_for_port(port, process, log):
    deadline = time.monotonic() + LIMIT
    while True:
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        if process.poll() is not None or time.monotonic() > deadline:
            raise Broken(f"the proxy does not listen on {port}:\n{log.read_text()[-2000:]}")
        time.sleep(0.05)


def interactions(setting, uri):
    for words, out in (
        (("request", "-r", "echo", "-d", "hello"), "hello\n"),
        (("stream", "-r", "range", "-d", '{"from":0,"to":5}', "--request-n", "2"), "0\n1\n2\n3\n4\n"),
        (("channel", "-r", "echo", "-d", "one", "-d", "two"), "one\ntwo\n"),
        (("fnf", "-r", "echo", "-d", "x"), ""),
        (("push", "-m", "text=x"), ""),
    ):
        done = setting.ask(words[0], uri, *words[1:])
        check(done.returncode == 0, f"{words[0]} failed: {done.stderr}")
        check(done.stdout == out, f"{words[0]} said {done.stdout!r}")
    # More than proxies and sockets hold.
    data = setting.work / "large"
    if not data.exists():
        data.write_text("x" * (4 << 20))
    done = setting.ask("request", uri, "-r", "echo", "-d", f"@{data}")
    check(done.stdout == "x" * (4 << 20) + "\n", f"{len(done.stdout)} bytes came: {done.stderr}")


def address(setting, uri):
    """Whose connection it is, as the audit log has it: the client's, and not the proxy's."""
    before = len(setting.audit.read_text().splitlines()) if setting.audit.exists() else 0
    done = setting.ask("request", uri, "-r", "echo", "-d", "x", "--auth-simple", "ann:wrong")
    check("authentication failed" in done.stderr, f"it said {done.stderr}")
    deadline = time.monotonic() + LIMIT
    while True:
        lines = [json.loads(line) for line in setting.audit.read_text().splitlines()[before:]]
        failed = [line["peer"] for line in lines if line["event"] == "auth.failed"]
        if failed or time.monotonic() > deadline:
            break
        time.sleep(0.05)
    check(len(failed) == 1 and failed[0].startswith("127.0.0.1"), f"the peer is {failed}")


def endless(setting, uri, keepalive, limit):
    """A stream of which nothing comes for a while; how it ended, if it has."""
    trust = [] if uri.startswith("tcp") else ["--ca", str(setting.certs / "ca.pem")]
    words = [str(setting.rsock), "stream", uri, *trust, "-r", "range", "-d", '{"interval_ms":60000}']
    process = subprocess.Popen(
        [*words, "--keepalive", keepalive],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )
    try:
        process.wait(limit)
        return process.stderr.read()
    except subprocess.TimeoutExpired:
        return None
    finally:
        end(process)


def silence(setting, uri):
    """What says KEEPALIVE outlives a proxy's patience; what does not is told that it is over."""
    check(endless(setting, uri, "400ms/10s", 5) is None, "it ended in spite of KEEPALIVE")
    said = endless(setting, uri, "60s/180s", 10)
    check(said, "it did not end")


def resumed(setting, uri):
    """A session goes on through the proxy when the line before it is cut."""
    cuts = [("down", 20_011), ("down", 30_011), ("up", 3_007)]
    with CuttingProxy("127.0.0.1", port_of(uri), cuts) as cutting:
        way = uri.replace(str(port_of(uri)), str(cutting.address[1]))
        words = ("-r", "range", "-d", '{"from":0,"to":20000}', "--request-n", "64", "--resume")
        done = setting.ask("stream", way, *words)
        check(done.returncode == 0, f"it failed: {done.stderr}")
        check(done.stdout.split() == [str(n) for n in range(20_000)], "items are missing, or twice there")
        check(cutting.cut == len(cuts), f"{cutting.cut} cuts of {len(cuts)}")


def events(setting, port):
    """An event comes when it is published, and not when a buffer is full."""
    trusted = ssl.create_default_context(cafile=str(setting.certs / "ca.pem"))

    def opened(lines, body=""):
        plain = socket.create_connection(("localhost", port), timeout=LIMIT)
        near = trusted.wrap_socket(plain, server_hostname="localhost")
        lines = [*lines, f"Host: localhost:{port}", f"Content-Length: {len(body)}", "", body]
        near.sendall("\r\n".join(lines).encode())
        return near

    with opened(["GET /api/topics/feed HTTP/1.1", "Accept: text/event-stream"]) as reader:
        seen = b""
        while b"id: " not in seen:
            part = reader.recv(4096)
            check(part, f"there are no events: {seen}")
            seen += part
        for n in range(TRIES):
            began = time.monotonic()
            with opened(["POST /api/topics/feed HTTP/1.1", "Connection: close"], f"event {n}.") as publisher:
                said = publisher.recv(4096)
                check(b" 200 " in said, f"a publish was answered with {said}")
            while f"event {n}.".encode() not in seen:
                seen += reader.recv(4096)
            if time.monotonic() - began < SOON:
                return
    raise Failed(f"{TRIES} events took longer than {SOON} s each")


def stranger(setting, service):
    """Who comes past the proxy is closed."""
    done = setting.run("request", service.uris["tcp"], "-r", "echo", "-d", "x")
    check(done.returncode != 0, "it was served")


class Tally:
    def __init__(self):
        self.counts = {"ok": 0, "FAIL": 0, "skip": 0}

    def line(self, word, what):
        self.counts[word] += 1
        print(f"{word} {what}", flush=True)

    def case(self, what, work, *arguments):
        try:
            work(*arguments)
            self.line("ok", what)
        except (Failed, subprocess.TimeoutExpired, OSError) as error:
            self.line("FAIL", f"{what}: {' '.join(str(error).split())[:300]}")


def run(name, setting, tally):
    with contextlib.ExitStack() as stack:
        services = [stack.enter_context(service) for service in setting.services()]
        fronts = HAPROXY if name == "haproxy" else NGINX
        with proxy(name, setting, services, "30s") as ports:
            for port, (scheme, path) in fronts.items():
                uri = f"{scheme}://localhost:{ports[port]}{path}"
                where = f"{name} {scheme} {port}"
                tally.case(f"{where} interactions", interactions, setting, uri)
                tally.case(f"{where} address", address, setting, uri)
                tally.case(f"{where} resumed", resumed, setting, uri)
            for port in GATEWAY[name]:
                tally.case(f"{name} https {port} events", events, setting, ports[port])
            tally.case(f"{name} stranger", stranger, setting, services[0])
        # These wait for time to pass, and may do so at once.
        with proxy(name, setting, services, "2s") as ports, ThreadPoolExecutor() as threads:
            for port, (scheme, path) in fronts.items():
                uri = f"{scheme}://localhost:{ports[port]}{path}"
                what = f"{name} {scheme} {port} silence"
                threads.submit(tally.case, what, silence, setting, uri)


def main():
    parser = argparse.ArgumentParser(prog="run", description="Proxies in front of rsockd.")
    parser.add_argument("--rsockd", type=Path, metavar="PATH", help="the service to start")
    parser.add_argument("names", nargs="*", metavar="PROXY", help="haproxy, nginx; both")
    options = parser.parse_args()
    target = Path(os.environ.get("CARGO_TARGET_DIR") or ROOT / "target")
    rsockd = (options.rsockd or target / "debug" / "rsockd").absolute()
    tally = Tally()
    for name in options.names or ["haproxy", "nginx"]:
        if shutil.which(name) is None and not (Path("/usr/sbin") / name).exists():
            print(f"NO {name} HERE (Debian: haproxy nginx-light libnginx-mod-stream)", file=sys.stderr)
            tally.line("FAIL" if IN_CI else "skip", name)
            continue
        with tempfile.TemporaryDirectory(prefix="rsock-proxies-") as work:
            # nginx gives its worker's files to another user.
            os.chmod(work, 0o755)
            try:
                run(name, Setting(rsockd, rsockd.with_name("rsock"), Path(work)), tally)
            except Broken as error:
                tally.line("FAIL", f"{name}: {error}")
    print("proxies: {ok} passed, {FAIL} failed, {skip} skipped".format(**tally.counts), flush=True)
    return 1 if tally.counts["FAIL"] else 0


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    os.environ["PATH"] += ":/usr/sbin"
    sys.exit(main())
