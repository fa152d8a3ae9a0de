"""Says which dependencies of some packages need a later compiler than one: compilers.py VERSION PACKAGE…

Reads `cargo metadata` from stdin; what is for development alone does not count.
"""

import json
import sys


def main():
    oldest, *roots = sys.argv[1:]
    number = lambda version: tuple(int(part) for part in (version + ".0.0").split(".")[:3])
    metadata = json.load(sys.stdin)
    packages = {package["id"]: package for package in metadata["packages"]}
    nodes = {node["id"]: node for node in metadata["resolve"]["nodes"]}
    waiting = [id for id, package in packages.items() if package["name"] in roots and package["source"] is None]
    if len(waiting) != len(roots):
        sys.exit(f"compilers.py: of {', '.join(roots)} only {len(waiting)} are in the workspace")
    seen = set()
    while waiting:
        id = waiting.pop()
        if id in seen:
            continue
        seen.add(id)
        for dependency in nodes[id]["deps"]:
            if any(kind["kind"] != "dev" for kind in dependency["dep_kinds"]):
                waiting.append(dependency["pkg"])
    late = [
        f"{package['name']} {package['version']} needs Rust {package['rust_version']}"
        for package in map(packages.get, sorted(seen))
        if package["rust_version"] and number(package["rust_version"]) > number(oldest)
    ]
    for line in late:
        print(f"{line}, and {oldest} is promised", file=sys.stderr)
    print(f"{len(seen)} packages, of which {len(late)} need a later compiler than {oldest}")
    sys.exit(bool(late))


if __name__ == "__main__":
    main()
