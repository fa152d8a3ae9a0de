"""Pages in Chromium: rsocket-js over wss:// with an authority of one's own, and pages that are to get nowhere.

Standard library only, and the packages of package-lock.json. Debian: chromium npm.
"""

import argparse
import base64
import hashlib
import json
import os
import queue
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import quote, urlsplit

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
sys.path.insert(0, str(HERE.parent / "interop"))

from peers import Missing, cached, install, need, version_of  # noqa: E402
from programs import Broken, Service, end  # noqa: E402
from secured import SECRET, make, token  # noqa: E402

IN_CI = os.environ.get("CI") == "true"
LIMIT = 60
# A name that leads to this machine in the browser, whoever it is of.
FOREIGN = "evil.example"
ACCESS = """
[auth.jwt]
keys = [{ alg = "HS256", secret = "%s" }]
[[grant]]
roles = ["chat"]
routes = ["echo", "range"]
"""


class Failed(Exception):
    """A case that did not hold."""


def packages(cache):
    """The sources of the packages, and which of them is meant by a package's name."""
    npm, node = need("npm", "npm"), need("node", "nodejs")
    inputs = [HERE / "package.json", HERE / "package-lock.json"]
    with cached(cache, "browser", inputs, version_of([node, "--version"])) as (folder, empty):
        if empty:
            for path in inputs:
                shutil.copy(path, folder)
            words = [npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
            install(words, folder, "npm ci for the page")
    modules = folder / "node_modules"
    files, mains = {}, {}
    for path in modules.rglob("*.js"):
        files[str(path.relative_to(modules))] = path.read_text()
    for manifest in modules.glob("*/package.json"):
        main = json.loads(manifest.read_text()).get("main", "index.js").removeprefix("./")
        main = main if main.endswith(".js") else f"{main}.js"
        mains[manifest.parent.name] = f"{manifest.parent.name}/{main}"
    return json.dumps({"files": files, "mains": mains}).encode()


class Pages:
    """A web server of pages, at an address; over TLS if there is a certificate."""

    def __init__(self, modules, host="127.0.0.1", certificate=None, port=0):
        outcomes = self.outcomes = queue.Queue()

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                known = {"/page": (HERE / "page.html").read_bytes(), "/modules.json": modules}
                body = known.get(self.path)
                self.send_response(200 if body else 404)
                self.send_header("Content-Type", "text/html" if self.path == "/page" else "application/json")
                self.send_header("Content-Length", str(len(body or b"")))
                self.end_headers()
                self.wfile.write(body or b"")

            def do_POST(self):
                outcomes.put(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
                self.send_response(204)
                self.end_headers()

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer((host, port), Handler)
        if certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*certificate)
            self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        self.port = self.server.server_address[1]

    def __enter__(self):
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()


class Rebound:
    """An address that was the attacker's while the page came from it, and leads to the service from then on.

    It has the service's port at another address of this machine: what the service is sent is what it is sent
    when a name was made to lead to it.
    """

    def __init__(self, pages, service_port):
        self.pages, self.service_port = pages, service_port
        self.listener = socket.create_server(("127.0.0.2", service_port))

    def __enter__(self):
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.listener.close()

    def _accept(self):
        while True:
            try:
                near, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self._pass_on, args=(near,), daemon=True).start()

    def _pass_on(self, near):
        head = near.recv(65_536)
        own = any(head.startswith(word) for word in (b"GET /page ", b"GET /modules", b"POST /outcome"))
        port = self.pages.port if own else self.service_port
        # One request a connection, so that each is looked at.
        head = head.replace(b"Connection: keep-alive\r\n", b"Connection: close\r\n")
        far = socket.create_connection(("127.0.0.1", port))
        far.sendall(head)

        def copy(source, target):
            try:
                while part := source.recv(65_536):
                    target.sendall(part)
                target.shutdown(socket.SHUT_WR)
            except OSError:
                pass

        threading.Thread(target=copy, args=(near, far), daemon=True).start()
        copy(far, near)


class Browser:
    """Runs pages, each in a Chromium of its own."""

    def __init__(self, program, certificate):
        self.program = program
        words = ["openssl", "x509", "-in", str(certificate), "-noout", "-pubkey"]
        key = subprocess.run(words, capture_output=True, text=True, check=True).stdout
        der = base64.b64decode("".join(key.splitlines()[1:-1]))
        self.known = base64.b64encode(hashlib.sha256(der).digest()).decode()

    def page(self, pages, origin, task, trusting=True, address="127.0.0.1"):
        """The outcome of what the page of this origin is asked to do; None if there is none."""
        url = f"{origin}/page#{quote(json.dumps(task))}"
        with tempfile.TemporaryDirectory(prefix="rsock-chromium-") as profile:
            words = [self.program, "--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run"]
            words += ["--disable-dev-shm-usage", "--disable-background-networking"]
            words += [f"--user-data-dir={profile}", f"--host-resolver-rules=MAP {FOREIGN} {address}"]
            # The pages and what they ask are of one machine, which pages of the net may not ask.
            words += ["--disable-features=LocalNetworkAccessChecks,BlockInsecurePrivateNetworkRequests"]
            if trusting:
                words += [f"--ignore-certificate-errors-spki-list={self.known}"]
            with open(Path(profile) / "log", "w") as log:
                process = subprocess.Popen([*words, url], stdout=log, stderr=log, start_new_session=True)
            try:
                return pages.outcomes.get(timeout=LIMIT)
            except queue.Empty:
                return None
            finally:
                end(process)


class Setting:
    def __init__(self, rsockd, work, browser_program):
        self.rsockd, self.work = rsockd, work
        make([rsockd.with_name("rsock"), "cert", "dev", "--dir", work])
        self.certificate = (work / "cert.pem", work / "key.pem")
        (work / "access.toml").write_text(ACCESS % SECRET)
        self.browser = Browser(browser_program, work / "cert.pem")

    def secured(self, *flags):
        """A service over TLS that asks who somebody is."""
        tls = ["--tls-cert", self.certificate[0], "--tls-key", self.certificate[1]]
        words = ["--listen", "wss://127.0.0.1:0/rsocket", *tls, "--access", self.work / "access.toml"]
        return Service("rsockd", [self.rsockd, *words, *flags], {"wss"}, self.work)

    def local(self, *flags):
        """A service as it is on a developer's machine: in clear, and open to who is on it."""
        words = ["--listen", "ws://127.0.0.1:0/rsocket"]
        return Service("rsockd", [self.rsockd, *words, *flags], {"ws"}, self.work)


def named(uri, name):
    return uri.replace("127.0.0.1", name, 1)


def http_of(uri, name):
    parts = urlsplit(uri)
    return f"{parts.scheme.replace('ws', 'http')}://{name}:{parts.port}"


def attempts(uri, name="localhost"):
    """All that a page may try: the WebSocket, and what HTTP there is beside it."""
    urls = [f"{http_of(uri, name)}{path}" for path in ("/", "/metrics", "/rsocket")]
    return {"work": "attempts", "uri": named(uri, name), "urls": urls}


def check(outcome, expected):
    if outcome != expected:
        raise Failed(f"the page says {outcome}, not {expected}")


NOWHERE = {"websocket": "closed", "http": ["nothing"] * 3}


def interactions(setting, modules):
    with Pages(modules, certificate=setting.certificate) as pages:
        origin = f"https://localhost:{pages.port}"
        with setting.secured("--allow-origin", origin) as service:
            uri = named(service.uris["wss"], "localhost")
            task = {"work": "interactions", "uri": uri, "token": token(SECRET)}
            check(setting.browser.page(pages, origin, task), "all")
            wrong = setting.browser.page(pages, origin, task | {"token": token(SECRET[::-1])})
            if "authentication failed" not in str(wrong):
                raise Failed(f"the page with another token says {wrong}")


def untrusted(setting, modules):
    """A page in clear, so that only the service's certificate is not known."""
    with Pages(modules) as pages:
        origin = f"http://localhost:{pages.port}"
        with setting.secured("--allow-origin", origin) as service:
            task = attempts(service.uris["wss"])
            check(setting.browser.page(pages, origin, task, trusting=False), NOWHERE)
            seen = setting.browser.page(pages, origin, task)
            check(seen["websocket"], "open")


def another_origin(setting, modules):
    """A page of somebody else's, against a service over TLS and against one on the visitor's own machine."""
    with Pages(modules) as pages:
        origin = f"http://{FOREIGN}:{pages.port}"
        with setting.secured() as service:
            check(setting.browser.page(pages, origin, attempts(service.uris["wss"])), NOWHERE)
        with setting.local() as service:
            check(setting.browser.page(pages, origin, attempts(service.uris["ws"])), NOWHERE)
        with setting.local("--allow-origin", origin) as service:
            seen = setting.browser.page(pages, origin, attempts(service.uris["ws"]))
            check(seen["websocket"], "open")


def rebinding(setting, modules):
    """A page whose own host is made to lead to the service on the visitor's machine."""
    for flags, websocket, first in (((), "closed", "403"), (("--allow-host", FOREIGN), "open", "200")):
        with Pages(modules) as pages, setting.local(*flags) as service:
            port = urlsplit(service.uris["ws"]).port
            with Rebound(pages, port):
                origin = f"http://{FOREIGN}:{port}"
                task = attempts(service.uris["ws"], FOREIGN)
                seen = setting.browser.page(pages, origin, task, address="127.0.0.2")
                if not seen or seen["websocket"] != websocket:
                    raise Failed(f"with {flags} the page says {seen}")
                said = [answer[:3] for answer in seen["http"]]
                if (flags and said[0] != first) or (not flags and set(said) != {first}):
                    raise Failed(f"with {flags} the page reads {seen}")


CASES = {
    "interactions": interactions,
    "untrusted": untrusted,
    "another-origin": another_origin,
    "rebinding": rebinding,
}


def main():
    parser = argparse.ArgumentParser(prog="run", description="Pages in Chromium against rsockd.")
    parser.add_argument("--rsockd", type=Path, metavar="PATH", help="the service to start")
    parser.add_argument("cases", nargs="*", metavar="CASE", help=f"of {', '.join(CASES)}; all")
    options = parser.parse_args()
    target = Path(os.environ.get("CARGO_TARGET_DIR") or ROOT / "target")
    rsockd = (options.rsockd or target / "debug" / "rsockd").absolute()
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    cache = Path(os.environ.get("RSOCK_INTEROP_CACHE") or Path(home) / "rsock-interop").absolute()
    counts = {"ok": 0, "FAIL": 0, "skip": 0}

    def line(word, text):
        counts[word] += 1
        print(f"{word} {text}", flush=True)

    try:
        names = ("chromium", "chromium-browser", "google-chrome")
        program = next(filter(None, map(shutil.which, names)), None) or need(names[0], names[0])
        need("openssl", "openssl")
        modules = packages(cache)
        with tempfile.TemporaryDirectory(prefix="rsock-browser-") as work:
            setting = Setting(rsockd, Path(work), program)
            for name in options.cases or CASES:
                try:
                    CASES[name](setting, modules)
                    line("ok", name)
                except Failed as error:
                    line("FAIL", f"{name}: {error}")
    except Missing as error:
        print(f"browser: {error}", file=sys.stderr)
        line("FAIL" if IN_CI else "skip", f"chromium: {error}")
    except Broken as error:
        line("FAIL", f"start: {error}")
    print("browser: {ok} passed, {FAIL} failed, {skip} skipped".format(**counts), flush=True)
    return 1 if counts["FAIL"] else 0


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    sys.exit(main())
