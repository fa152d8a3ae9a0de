"""The peers: what each needs, where it is installed, and how its programs are started."""

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from programs import Broken, say

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
EXAMPLES = ROOT / "examples"
INSTALL_LIMIT = 600


class Missing(Exception):
    """A toolchain that is not here."""


def need(tool, package=None):
    path = shutil.which(tool)
    if path is None:
        raise Missing(f"NO {tool} HERE" + (f" (Debian: {package})" if package else ""))
    return path


def version_of(arguments):
    done = subprocess.run(
        arguments, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=True
    )
    return done.stdout.splitlines()[0].strip()


def install(arguments, cwd, what):
    try:
        done = subprocess.run(
            arguments,
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=INSTALL_LIMIT,
        )
    except subprocess.TimeoutExpired:
        raise Broken(f"{what}: no end after {INSTALL_LIMIT} s") from None
    if done.returncode != 0:
        raise Broken(f"{what} failed:\n{done.stdout.rstrip()}")


@contextlib.contextmanager
def cached(cache, peer, inputs, made_for):
    """The peer's folder in the cache, named after what is installed in it.

    Gives the folder and whether it still has to be filled; only one runner at
    a time may look or fill.
    """
    digest = hashlib.sha256(made_for.encode())
    for path in inputs:
        digest.update(path.read_bytes())
    folder = cache / f"{peer}-{digest.hexdigest()[:16]}"
    cache.mkdir(parents=True, exist_ok=True)
    with open(cache / f"{peer}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        complete = folder / "complete"
        if complete.exists():
            say(f"{peer}: packages are up to date in {folder}")
            yield folder, False
        else:
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            yield folder, True
            complete.touch()


def check_pins(example, wanted, installed):
    """The packages an example names for its readers are those it runs with here."""
    if others := sorted(map(str, set(wanted) - set(installed))):
        raise Broken(f"examples/{example.name} asks for other versions than here: {others}")


class Node:
    """A peer in JavaScript: its folder has package.json, a lockfile and NAME.mjs."""

    def __init__(self, name, example=None):
        self.name = name
        self.source = HERE / name
        self.example = example and EXAMPLES / example

    def prepare(self, cache, work):
        self.node, npm = need("node", "nodejs"), need("npm")
        version = version_of([self.node, "--version"])
        inputs = [self.source / "package.json", self.source / "package-lock.json"]
        with cached(cache, self.name, inputs, version) as (folder, empty):
            if empty:
                say(f"{self.name}: npm ci, node {version}, into {folder}")
                for path in inputs:
                    shutil.copy(path, folder)
                command = [npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
                install(command, folder, f"npm ci for {self.name}")
        # Modules are looked for beside the file that imports them, and nothing
        # is to be installed inside the repository: so the sources are copied.
        shutil.copytree(HERE / "lib", work / "lib", dirs_exist_ok=True)
        self.folder = work / self.name
        self.folder.mkdir()
        for path in self.source.glob("*.mjs"):
            shutil.copy(path, self.folder)
        if self.example:
            manifests = (self.example / "package.json", self.source / "package.json")
            pins = (json.loads(path.read_text())["dependencies"].items() for path in manifests)
            check_pins(self.example, *pins)
            shutil.copy(self.example / "client.mjs", self.folder / "example.mjs")
            shutil.copy(self.example / "chat.mjs", self.folder)
        (self.folder / "node_modules").symlink_to(folder / "node_modules")

    def command(self, script):
        return [self.node, str(self.folder / f"{script}.mjs")]

    def has(self, script):
        return (self.folder / f"{script}.mjs").exists()


class Python:
    """A peer in Python: its folder has requirements.txt and NAME.py."""

    def __init__(self, name, example=None):
        self.name = name
        self.source = HERE / name
        self.example = example and EXAMPLES / example

    def prepare(self, cache, work):
        requirements = self.source / "requirements.txt"
        if self.example:
            files = (self.example / "requirements.txt", requirements)
            check_pins(self.example, *(path.read_text().splitlines() for path in files))
        made_for = f"{sys.executable} {sys.version}"
        with cached(cache, self.name, [requirements], made_for) as (folder, empty):
            if empty:
                version = ".".join(map(str, sys.version_info[:3]))
                say(f"{self.name}: a venv of Python {version} and pip install, into {folder}")
                probe = [sys.executable, "-c", "import ensurepip, venv"]
                if subprocess.run(probe, stderr=subprocess.DEVNULL).returncode != 0:
                    raise Missing("python3 HERE CANNOT MAKE A venv (Debian: python3-venv)")
                install([sys.executable, "-m", "venv", str(folder / "venv")], folder, "venv")
                pip = [str(folder / "venv/bin/python"), "-m", "pip", "install"]
                pip += ["--quiet", "--disable-pip-version-check", "-r", str(requirements)]
                install(pip, folder, f"pip install for {self.name}")
        self.python = folder / "venv/bin/python"

    def command(self, script):
        return [str(self.python), "-B", str(self.path(script))]

    def has(self, script):
        return self.path(script).exists()

    def path(self, script):
        if script == "example" and self.example:
            return self.example / "client.py"
        if script == "chat" and self.example:
            return self.example / "chat.py"
        return self.source / f"{script}.py"


class Java:
    """A peer in Java: a Maven project with a class for each program, and one in examples/."""

    PACKAGE = "rsock/interop"

    def __init__(self, name):
        self.name = name
        self.source = HERE / name
        self.example = EXAMPLES / name

    def prepare(self, cache, work):
        self.java = need("java", "default-jdk-headless")
        need("javac", "default-jdk-headless")
        maven = need("mvn", "maven")
        version = version_of([self.java, "-version"])
        projects = [self.source, *([self.example] if self.example.exists() else [])]
        inputs = [
            path
            for project in projects
            for path in (project / "pom.xml", *sorted(project.glob("src/**/*.*")))
        ]
        with cached(cache, self.name, inputs, version) as (folder, empty):
            if empty:
                say(f"{self.name}: mvn prepare-package, {version}, into {folder}")
                goals = {self.source: ["prepare-package"], self.example: self.EXAMPLE_GOALS}
                for project in projects:
                    target = folder if project == self.source else folder / "example"
                    shutil.copytree(project, target, dirs_exist_ok=True)
                    command = [maven, "--batch-mode", "--quiet", *goals[project]]
                    install(command, target, f"mvn for {self.name}")
        self.folder = folder

    # Its pom is for readers, and copies nothing by itself.
    EXAMPLE_GOALS = [
        "compile",
        "org.apache.maven.plugins:maven-dependency-plugin:3.6.1:copy-dependencies",
        "-DoutputDirectory=target/jars",
    ]

    def command(self, script, *flags):
        # What runs for seconds is not worth the second compiler.
        flags = ["-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xmx512m", *flags]
        if script == "example":
            folder, program = self.folder / "example", self.example_class()
        elif script == "chat":
            folder, program = self.folder / "example", "Chat"
        else:
            folder, program = self.folder, f"{self.PACKAGE}/{script.capitalize()}"
        classes = f"{folder}/target/classes:{folder}/target/jars/*"
        return [self.java, *flags, "-cp", classes, program.replace("/", ".")]

    def example_class(self):
        (path,) = self.example.glob("src/main/java/**/Example.java")
        return path.relative_to(self.example / "src/main/java").with_suffix("").as_posix()

    def has(self, script):
        if script == "example":
            return self.example.exists()
        if script == "chat":
            return (self.example / "src/main/java/Chat.java").exists()
        return (self.source / f"src/main/java/{self.PACKAGE}/{script.capitalize()}.java").exists()


class Go:
    """A peer in Go: a module with a main package for each program."""

    def __init__(self, name, example=None):
        self.name = name
        self.source = HERE / name
        self.example = example and EXAMPLES / example

    def prepare(self, cache, work):
        go = need("go", "golang-go")
        version = version_of([go, "version"])
        inputs = sorted(path for path in self.source.rglob("*") if path.is_file())
        if self.example:
            files = (self.example / "go.sum", self.source / "go.sum")
            check_pins(self.example, *(path.read_text().splitlines() for path in files))
            inputs += [self.example / name for name in ("go.mod", "go.sum", "main.go", "chat/main.go")]
        with cached(cache, self.name, inputs, version) as (folder, empty):
            if empty:
                say(f"{self.name}: go build, {version}, into {folder}")
                command = [go, "build", "-o", f"{folder}/", "./..."]
                install(command, self.source, f"go build for {self.name}")
                if self.example:
                    command = [go, "build", "-o", f"{folder}/example", "."]
                    install(command, self.example, "go build of the example")
                    command = [go, "build", "-o", f"{folder}/chat", "./chat"]
                    install(command, self.example, "go build of the chat")
        self.folder = folder

    def command(self, script):
        return [str(self.folder / script)]

    def has(self, script):
        return (self.folder / script).exists()


class Rust:
    """A peer in Rust: a package with a binary for each program."""

    def __init__(self, name):
        self.name = name
        self.source = HERE / name

    def prepare(self, cache, work):
        cargo = need("cargo", "cargo")
        version = version_of([cargo, "--version"])
        files = [*self.source.glob("Cargo.*"), *self.source.glob("src/**/*.rs")]
        with cached(cache, self.name, sorted(files), version) as (folder, empty):
            if empty:
                say(f"{self.name}: cargo build, {version}, into {folder}")
                command = [cargo, "build", "--quiet", "--locked", "--target-dir", str(folder)]
                install(command, self.source, f"cargo build for {self.name}")
        self.folder = folder / "debug"

    def command(self, script):
        return [str(self.folder / script)]

    def has(self, script):
        return (self.source / f"src/bin/{script}.rs").exists()


class Ours:
    """Our own crate, which has nothing but its example."""

    def __init__(self, name, example):
        self.name = name
        self.manifest = EXAMPLES / example / "Cargo.toml"

    def prepare(self, cache, work):
        cargo = need("cargo")
        # It depends on all of the repository: Cargo knows when it is to be built anew.
        target = Path(os.environ.get("CARGO_TARGET_DIR") or ROOT / "target")
        command = [cargo, "build", "--locked", "--quiet", "--target-dir", str(target)]
        command += ["--manifest-path", str(self.manifest)]
        install(command, ROOT, "cargo build of the example")
        self.example = target / "debug" / "rsock-example"

    def command(self, script):
        return [str(self.example)]

    def has(self, script):
        return script == "example"


PEERS = {
    peer.name: peer
    for peer in (
        Go("go", example="go"),
        Java("java"),
        Node("js0"),
        Node("js1", example="javascript"),
        Python("py", example="python"),
        Ours("rsock", example="rust"),
        Rust("rust"),
        Java("spring"),
        Java("transport-test"),
    )
}
