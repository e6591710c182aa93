"""Runs the whole shop on this machine: two evermesh nodes with mutual TLS between them, two workers beside each.

    python shop.py up

Everything is in a temporary directory and ends with Ctrl-C. All processes are in one process group.
"""

import argparse
import http.client
import json
import os
import pathlib
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

from database import Database

HERE = pathlib.Path(__file__).resolve().parent
REPOSITORY = HERE.parents[2]
NODES, WORKERS_EACH, PRODUCTS = 2, 2, 20
STARTS_WITHIN = 30.0  # seconds, on a busy machine
ENDS_WITHIN = 10.0  # seconds; then it is killed

NODE = """
[node]
name = "{name}"
data_dir = "{name}.data"
drain = "2s"

[listen]
shared = "127.0.0.1:{port}"
local = "{name}.sock"

[tls]
cert = "{name}.pem"
key = "{name}.key"
ca = "ca.pem"

[mesh]
peers = [{peers}]
lease = "1s"
"""


class Process:
    """A child, with a log."""

    def __init__(self, name, command, directory, environment):
        self.name, self.log = name, directory / f"{name}.log"
        self.start_it = lambda log: subprocess.Popen(
            [str(word) for word in command],
            cwd=directory, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
        )  # fmt: skip
        self.child = None

    def start(self):
        with self.log.open("ab") as log:
            self.child = self.start_it(log)

    def until(self, what, asked):
        """Asks until the answer is yes."""
        end = time.monotonic() + STARTS_WITHIN
        while not asked():
            if self.child.poll() is not None or time.monotonic() > end:
                raise SystemExit(f"{self.name}: not {what}\n{self.log.read_text()[-2000:]}")
            time.sleep(0.05)

    def kill(self):
        """SIGKILL: as a crash."""
        self.child.kill()
        self.child.wait()

    def stop(self):
        """Ends it in order, or else."""
        if self.child and self.child.poll() is None:
            self.child.terminate()
            try:
                self.child.wait(ENDS_WITHIN)
            except subprocess.TimeoutExpired:
                self.kill()


class Shop:
    """All processes, and where they are reached."""

    def __init__(self, binary=None, evermesh=True, until="applied", always_trust=False):
        self.binary, self.evermesh, self.until = shutil.which(binary or find_binary()), evermesh, until
        if self.binary is None:
            raise SystemExit(f"{binary} cannot be run")
        self.binary = os.path.abspath(self.binary)
        self.always_trust = always_trust
        self.directory = self.database = None
        self.nodes, self.workers, self.urls = [], [], []

    def __enter__(self):
        # Short, and not below TMPDIR: the path of a unix socket has at most 107 bytes.
        self.directory = pathlib.Path(tempfile.mkdtemp(prefix="evermesh-shop-", dir="/tmp"))
        try:
            self._prepare()
            if self.evermesh:
                for node in self.nodes:
                    node.start()
                for number in range(NODES):
                    self._serves(number)
            for worker in self.workers:
                worker.start()
            for worker, url in zip(self.workers, self.urls):
                worker.until("ready", lambda: ask(url)["ready"])
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        before = [(number, signal.signal(number, signal.SIG_IGN)) for number in (signal.SIGINT, signal.SIGTERM)]
        for process in self.workers + self.nodes:
            process.stop()
        shutil.rmtree(self.directory, ignore_errors=True)
        for number, handler in before:
            signal.signal(number, handler)

    def restart_node(self, number):
        """Starts a node that was killed, and waits until it serves."""
        self.nodes[number].start()
        self._serves(number)

    def trusted(self):
        """Whether every worker trusts its cache now."""
        return all(ask(url)["trusted"] for url in self.urls)

    def _serves(self, number):
        health = [self.binary, "health", "--at", self._at(number)]
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "env": environment()}
        self.nodes[number].until("serving", lambda: subprocess.run(health, **quiet).returncode == 0)

    def _at(self, number):
        return f"unix:{self.directory}/web-{number + 1}.sock"

    def _prepare(self):
        """Certificates, configurations, generated code, the database."""
        python, generated = dict(environment(), PYTHONPATH=str(self.directory / "generated")), self.directory / "generated"
        generate(generated)
        self.database = Database(self.directory / "shop.sqlite")
        self.database.create(PRODUCTS)
        names = [f"web-{number + 1}" for number in range(NODES)]
        ports = free_ports(NODES + NODES * WORKERS_EACH)
        if self.evermesh:
            self._call("ca", "init", "--dir", "ca", "--trust-domain", "mesh.internal")
            for name, port in zip(names, ports):
                at = ("--dns", "localhost", "--ip", "127.0.0.1", "--out", ".")
                self._call("ca", "issue", "--dir", "ca", "--node", name, *at)
                peers = ", ".join(f'"https://127.0.0.1:{other}"' for other in ports[:NODES] if other != port)
                (self.directory / f"{name}.toml").write_text(NODE.format(name=name, port=port, peers=peers))
                serve = [self.binary, "serve", "--config", f"{name}.toml"]
                self.nodes.append(Process(name, serve, self.directory, environment()))
        self.urls = [f"http://127.0.0.1:{port}" for port in ports[NODES:]]
        for number, port in enumerate(ports[NODES:]):
            command = [sys.executable, HERE / "worker.py", "--port", port, "--database", "shop.sqlite"]
            command += ["--workers", ",".join(self.urls), "--until", self.until]
            # The load balancer goes round: its neighbours are on different nodes.
            command += ["--at", self._at(number % NODES)] if self.evermesh else []
            command += ["--always-trust"] if self.always_trust else []
            self.workers.append(Process(f"worker-{number + 1}", command, self.directory, python))

    def _call(self, *arguments):
        said = subprocess.run([self.binary, *arguments], cwd=self.directory, capture_output=True, text=True)
        if said.returncode:
            raise SystemExit(f"evermesh {' '.join(arguments)}: {said.stderr}")


def environment():
    """Without what would stand over the nodes' configurations."""
    return {name: value for name, value in os.environ.items() if not name.startswith("EVERMESH_")}


def find_binary():
    """The one that was built last, or else the one that is installed."""
    built = [REPOSITORY / "target" / kind / "evermesh" for kind in ("release", "debug")]
    built = [path for path in built if path.exists()]
    found = str(max(built, key=lambda path: path.stat().st_mtime)) if built else shutil.which("evermesh")
    if not found:
        raise SystemExit("there is no evermesh: `cargo install --path crates/cli`, or name it with --binary")
    return found


def generate(into):
    """What docs/clients/python.md says to do first: generated code, and its library, copied from the page."""
    into.mkdir()
    proto = REPOSITORY / "proto"
    files = sorted(proto.glob("evermesh/v1/*.proto"))
    command = [sys.executable, "-m", "grpc_tools.protoc", "-I", proto, f"--python_out={into}", f"--grpc_python_out={into}"]
    if subprocess.run([*command, *files]).returncode:
        raise SystemExit("code cannot be generated: pip install grpcio grpcio-tools")
    page = (REPOSITORY / "docs/clients/python.md").read_text()
    library = re.search(r"^```python\n(# evermesh_cache\.py\n.*?)^```$", page, re.MULTILINE | re.DOTALL)
    (into / "evermesh_cache.py").write_text(library.group(1))


def free_ports(count):
    """Ports that are free now, below those that the kernel gives to outgoing connections."""
    found = []
    for port in random.sample(range(10_000, 30_000), 1000):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        found.append(port)
        if len(found) == count:
            return found
    raise SystemExit("no free ports")


def ask(url):
    """What a worker says of itself."""
    connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=5)
    try:
        connection.request("GET", "/ready")
        return json.loads(connection.getresponse().read())
    except OSError:
        return {"ready": False, "trusted": False}
    finally:
        connection.close()


def end_in_order():
    """SIGTERM and SIGHUP end this process as Ctrl-C does."""

    def interrupt(*_):
        raise KeyboardInterrupt

    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, interrupt)


def main():
    options = argparse.ArgumentParser(description="A small web shop whose caches are never stale.")
    options.add_argument("command", choices=["up"])
    options.add_argument("--evermesh", choices=("on", "off"), default="on", help="off: the same shop without invalidations")
    options.add_argument("--until", choices=("applied", "stored"), default="applied",
                         help="when a change is answered: once applied everywhere, or once stored, with a fence token")  # fmt: skip
    options.add_argument("--binary", help="the evermesh to run")
    options = options.parse_args()
    end_in_order()
    try:
        with Shop(options.binary, options.evermesh == "on", options.until) as shop:
            for number, url in enumerate(shop.urls):
                beside = f"beside node web-{number % NODES + 1}" if shop.evermesh else "alone"
                print(f"worker-{number + 1}  {url}  {beside}", flush=True)
            print(f"Logs, sockets and the database are in {shop.directory}. Ctrl-C ends it all.", flush=True)
            signal.pause()
    except KeyboardInterrupt:
        print("ended")


if __name__ == "__main__":
    main()
