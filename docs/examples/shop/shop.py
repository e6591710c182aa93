"""A small web shop on two evermesh nodes with two workers each, and a load test that looks for stale reads.

shop.py up                                         starts it, prints the URLs, ends on Ctrl-C
shop.py load [--mode applied|fence|off] [--kill]   starts it, loads it, prints one JSON object, and ends it

Needs the binary `evermesh` (EVERMESH names another one), and grpcio and grpcio-tools. Everything lives in a temporary directory.
"""

import argparse
import contextlib
import glob
import http.client
import json
import os
import pathlib
import random
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time

HERE = pathlib.Path(__file__).resolve().parent
REPOSITORY = HERE.parents[2]
EVERMESH = os.environ.get("EVERMESH") or "evermesh"
EVERMESH = str(pathlib.Path(EVERMESH).resolve()) if os.sep in EVERMESH else EVERMESH
PRODUCTS = 20
FENCE = "X-Evermesh-Fence"


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait(what, happened, seconds=30):
    end = time.monotonic() + seconds
    while not happened():
        if time.monotonic() > end:
            sys.exit(f"not within {seconds} s: {what}")
        time.sleep(0.02)


class Mesh:
    """Two nodes with certificates, and two workers at each."""

    def __init__(self, directory, mode):
        self.directory, self.mode = pathlib.Path(directory), mode
        self.processes, self.nodes, self.workers = [], {}, []
        self.prepare()
        if mode != "off":
            ports = {name: free_port() for name in ("web-1", "web-2")}
            for name, port in ports.items():
                others = [f"https://127.0.0.1:{other}" for at, other in ports.items() if at != name]
                self.configure(name, port, others)
                self.start_node(name)
        for name in ("web-1", "web-1", "web-2", "web-2"):
            self.start_worker(name)
        for port in self.workers:
            wait("a worker is ready", lambda: self.ready(port))

    def prepare(self):
        """The database, the library of the Python page, and the generated code."""
        database = sqlite3.connect(self.directory / "shop.db")
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("CREATE TABLE product (id INTEGER PRIMARY KEY, price INTEGER, version INTEGER)")
        database.executemany("INSERT INTO product VALUES (?, 10, 1)", [(n,) for n in range(PRODUCTS)])
        database.commit()
        database.close()
        page = (REPOSITORY / "docs/clients/python.md").read_text()
        library = page.split("```python\n# evermesh_cache.py\n")[1].split("\n```")[0]
        (self.directory / "evermesh_cache.py").write_text(library)
        files = glob.glob(str(REPOSITORY / "proto/evermesh/v1/*.proto"))
        generate = [sys.executable, "-m", "grpc_tools.protoc", "-I", str(REPOSITORY / "proto"),
                    "--python_out=.", "--grpc_python_out=."]
        subprocess.run(generate + files, cwd=self.directory, check=True)
        if self.mode != "off":
            self.evermesh("ca", "init", "--dir", "ca", "--trust-domain", "shop.internal")

    def evermesh(self, *arguments):
        subprocess.run([EVERMESH, *arguments], cwd=self.directory, check=True, stdout=subprocess.DEVNULL,
                       stderr=subprocess.DEVNULL)

    def configure(self, name, port, others):
        self.evermesh("ca", "issue", "--dir", "ca", "--node", name, "--ip", "127.0.0.1", "--out", ".")
        (self.directory / f"{name}.toml").write_text(f"""
[node]
name = "{name}"
data_dir = "{name}.data"
[listen]
shared = "127.0.0.1:{port}"
local = "{name}.sock"
[tls]
cert = "{name}.pem"
key = "{name}.key"
ca = "ca.pem"
[mesh]
peers = {json.dumps(others)}
""")

    def start(self, command, log):
        with open(self.directory / log, "ab") as file:
            process = subprocess.Popen(command, cwd=self.directory, stdin=subprocess.DEVNULL, stdout=file, stderr=file,
                                       env={**os.environ, "PYTHONPATH": str(self.directory)})
        self.processes.append(process)
        return process

    def start_node(self, name):
        self.nodes[name] = self.start([EVERMESH, "serve", "--config", f"{name}.toml"], f"{name}.log")
        health = [EVERMESH, "health", "--at", f"unix:{self.directory / name}.sock"]
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        wait(f"{name} serves", lambda: subprocess.run(health, **quiet).returncode == 0)

    def start_worker(self, name):
        port = free_port()
        answer = "stored" if self.mode == "fence" else "applied"
        self.start([sys.executable, str(HERE / "worker.py"), "--port", str(port), "--database", "shop.db",
                    "--at", f"unix:{self.directory / name}.sock", "--answer", answer,
                    "--evermesh", "off" if self.mode == "off" else "on"], f"worker-{port}.log")
        self.workers.append(port)

    def ready(self, port):
        try:
            return ask(http.client.HTTPConnection("127.0.0.1", port, timeout=30), "GET", "/ready")[0] == 200
        except OSError:
            return False

    def kill_node(self, name):
        """SIGKILL in the middle of everything, and a start some time later."""
        self.nodes[name].send_signal(signal.SIGKILL)
        self.nodes[name].wait()
        time.sleep(1)
        self.start_node(name)

    def end(self):
        for process in self.processes:
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGTERM)
        for process in self.processes:
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def ask(connection, method, path, body=None, headers=None):
    """Status, answer, and the fence of a change."""
    connection.request(method, path, body and json.dumps(body), headers or {})
    answer = connection.getresponse()
    return answer.status, json.loads(answer.read()), answer.getheader(FENCE)


class Load:
    """Visitors behind a load balancer that sends each request to the next worker.

    A read is stale if it returns an older version than one whose change was answered before the read began. With `fence`, an
    editor carries the fence of the last change and must see that one; nobody else is promised anything.
    """

    def __init__(self, workers, mode):
        self.workers, self.mode = workers, mode
        self.answered, self.lock = {}, threading.Lock()
        self.counts = dict(reads=0, writes=0, unanswered=0, stale=0)

    def worker(self, connections):
        port = random.choice(self.workers)
        if port not in connections:
            connections[port] = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        return connections[port]

    def count(self, **more):
        with self.lock:
            for name, number in more.items():
                self.counts[name] += number

    def editor(self, changes, seed):
        connections, choice = {}, random.Random(seed)
        for n in range(changes):
            product = choice.randrange(PRODUCTS)
            path = f"/product/{product}"
            status, answer, fence = ask(self.worker(connections), "POST", path, {"price": n})
            if status != 200:
                self.count(unanswered=1)
                continue
            self.count(writes=1)
            if self.mode == "fence":
                # Saves, reloads through the load balancer, and always sees the new page.
                _, seen, _ = ask(self.worker(connections), "GET", path, headers={FENCE: fence})
                self.count(reads=1, stale=int(seen["version"] < answer["version"]))
                continue
            with self.lock:
                self.answered[product] = max(self.answered.get(product, 1), answer["version"])

    def visitor(self, ended):
        connections = {}
        while not ended.is_set():
            product = random.randrange(PRODUCTS)
            with self.lock:
                least = self.answered.get(product, 1)
            _, seen, _ = ask(self.worker(connections), "GET", f"/product/{product}")
            self.count(reads=1, stale=int(seen["version"] < least))

    def run(self, changes, editors, visitors, meanwhile):
        ended = threading.Event()
        reading = [threading.Thread(target=self.visitor, args=(ended,)) for _ in range(visitors)]
        writing = [threading.Thread(target=self.editor, args=(changes // editors, n)) for n in range(editors)]
        for thread in reading + writing:
            thread.start()
        meanwhile()
        for thread in writing:
            thread.join()
        ended.set()
        for thread in reading:
            thread.join()
        return self.counts


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("act", choices=["up", "load"])
    parser.add_argument("--mode", choices=["applied", "fence", "off"], default="applied")
    parser.add_argument("--changes", type=int, default=300)
    parser.add_argument("--kill", action="store_true", help="SIGKILL one node in the middle, and start it again")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    with tempfile.TemporaryDirectory(prefix="evermesh-shop-") as directory:
        mesh = None
        try:
            mesh = Mesh(directory, options.mode)
            if options.act == "up":
                print("two nodes, four workers; a load balancer would send each request to another one:")
                for port in mesh.workers:
                    print(f"  curl http://127.0.0.1:{port}/product/7")
                print(f"  curl --json '{{\"price\": 13}}' http://127.0.0.1:{mesh.workers[0]}/product/7", flush=True)
                signal.pause()
            load = Load(mesh.workers, options.mode)
            kill = (lambda: (time.sleep(1), mesh.kill_node("web-2"))) if options.kill else (lambda: None)
            counts = load.run(options.changes, editors=3, visitors=4, meanwhile=kill)
            print(json.dumps({"mode": options.mode, "kills": int(options.kill), **counts}))
        except KeyboardInterrupt:
            pass
        finally:
            if mesh:
                mesh.end()


if __name__ == "__main__":
    main()
