"""Our `rsock` against what only Spring's server has: types, credentials, routes with variables."""

LIMIT = 20

TEXT = "Hallo Ann! Hallo Ann!"
# {"name": "Ann", "times": 2}
GREETING = b"\xa2\x64name\x63Ann\x65times\x02"
# A map of unknown length, as Jackson writes it.
GREETED = b"\xbf\x64text\x75" + TEXT.encode() + b"\x66length\x15\xff"


def cbor(value):
    """A number as CBOR."""
    return bytes([value]) if value < 24 else bytes([24, value])


def greet_json(run, _):
    done = run("request", "-r", "greet.de", "-d", '{"name":"Ann","times":2}')
    done.ends_well(f'{{"text":"{TEXT}","length":{len(TEXT)}}}\n'.encode())


def greet_cbor(run, _):
    words = ["-r", "greet.de", "--data-mime", "application/cbor", "--out", "raw"]
    run("request", *words, "-d", "-", stdin=GREETING).ends_well(GREETED)


def greet_cbor_for_one_request(run, _):
    words = ["-r", "greet.de", "--request-data-mime", "application/cbor", "--out", "hex"]
    done = run("request", *words, "-d", "-", stdin=GREETING)
    done.check(done.done.returncode == 0, "it failed")


def range_cbor(run, _):
    words = ["-r", "range", "--data-mime", "application/cbor", "--out", "raw", "--request-n", "4"]
    wanted = b"\xa2\x64from\x00\x62to\x18\x32"
    run("stream", *words, "-d", "-", stdin=wanted).ends_well(b"".join(map(cbor, range(50))))


def fnf_route_of_its_own(run, service):
    run("fnf", "-r", "forget", "-d", "forget me").ends_well(b"")
    heard(service, "got fnf forget me")


def push_composite(run, service):
    run("push", "-m", "text=a push").ends_well(b"")
    heard(service, "got push a push")


def heard(service, line):
    if not service.wait_for(line, LIMIT):
        raise AssertionError(f"it did not arrive: {line}")


SIMPLE = ["--auth-simple", "ann:s3cr3t"]
BEARER = ["--auth-bearer", "a-token"]


def who_am_i(name, words):
    def case(run, _):
        run("request", "-r", "whoami", "-d", "", *words).ends_well(f"{name}\n".encode())

    return case


def refused(code, text, words):
    def case(run, _):
        done = run("request", "-r", "whoami", "-d", "", *words)
        done.check(done.done.returncode == code, f"expected {code}")
        done.check(text in done.err, "the error's text is missing")

    return case


REJECTED_SETUP, APPLICATION_ERROR = 67, 71
IN_REQUEST = ["--auth-in", "request"]

CASES = {
    "greet-json": greet_json,
    "greet-cbor": greet_cbor,
    "greet-cbor-for-one-request": greet_cbor_for_one_request,
    "range-cbor": range_cbor,
    "fnf-route-of-its-own": fnf_route_of_its_own,
    "push-composite": push_composite,
    "simple-in-setup": who_am_i("ann", SIMPLE),
    "simple-in-request": who_am_i("ann", [*SIMPLE, *IN_REQUEST]),
    "simple-in-both": who_am_i("ann", [*SIMPLE, "--auth-in", "both"]),
    "bearer-in-setup": who_am_i("the bearer", BEARER),
    "bearer-in-request": who_am_i("the bearer", [*BEARER, *IN_REQUEST]),
    "simple-wrong": refused(REJECTED_SETUP, "no such user", ["--auth-simple", "ann:wrong"]),
    "bearer-wrong": refused(REJECTED_SETUP, "no such token", ["--auth-bearer", "b-token"]),
    "bearer-wrong-in-request": refused(
        APPLICATION_ERROR, "no such token", ["--auth-bearer", "b-token", *IN_REQUEST]
    ),
    "no-credentials": refused(APPLICATION_ERROR, "Access Denied", []),
}
