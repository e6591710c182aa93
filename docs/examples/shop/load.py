"""A load test of the shop, and its load balancer: does anybody ever read something stale?

Stale is a read that returns a version older than one whose write was answered before that read began.

    python load.py --until applied      the write is answered once every cache has dropped the old version: 0 stale
    python load.py --read-fence         the write is answered at once; who reads carries its fence token: 0 stale
    ... --pause                         and a node stands still again and again, for less than a lease: still 0 stale
    ... --kill                          and a node is killed in the middle, and started again: still 0 stale

A test that never finds anything stale shows nothing. So shops that must fail:

    python load.py --evermesh off               nobody is told
    python load.py --until stored --pause       answered at once, and nobody carries a token; also with --kill
    python load.py --kill --always-trust        caches are used though nobody knows whether they heard everything

The last line is JSON. Exit 0: it ran to its end, and nothing was stale, or was not meant to be otherwise.
"""

import argparse
import http.client
import itertools
import json
import random
import signal
import statistics
import threading
import time

import shop

READERS = 6
ANSWERED_MEANWHILE = 10  # writes, while a node is dead: what its workers do not hear of
OTHER = 1  # web-2: is killed, or stands still
STANDS = 0.3  # seconds: its workers, whose leases take 1 s, go on trusting what they have
RUNS = 0.5  # seconds, between


class Load:
    """Readers and editors over all workers, in turn."""

    def __init__(self, urls, fence):
        self.urls, self.fence = urls, fence
        self.turns = itertools.count()
        self.lock = threading.Lock()
        self.answered = {}  # product: the newest version whose write was answered
        self.confirmed = 0  # writes that were
        # Who reads has heard of every write: all clients share one cookie jar. A browser keeps its own.
        self.jar = {}  # cookie name: (sequence, the cookie)
        self.counts = dict.fromkeys(("reads", "writes", "unconfirmed", "errors", "stale"), 0)
        self.cache = {"hit": 0, "filled": 0, "bypassed": 0}
        self.bypassed = set()  # the workers that did
        self.took = {"read": [], "write": []}
        self.examples = []
        self.over = threading.Event()
        # An editor stays with one node: a write waits while its node is dead, and the others must go on writing.
        work = [(self.read, urls)] * READERS + [(self.edit, urls[node :: shop.NODES]) for node in range(shop.NODES)]
        self.clients = [threading.Thread(target=self._work, args=one) for one in work]

    def __enter__(self):
        for client in self.clients:
            client.start()
        return self

    def __exit__(self, *_):
        self.over.set()
        for client in self.clients:
            client.join()

    def operations(self):
        return self.counts["reads"] + self.counts["writes"]

    def go_on(self, operations, end, also=lambda: True):
        """Waits for so many more operations and for something else; whether both came in time."""
        until = self.operations() + operations
        while self.operations() < until or not also():
            if time.monotonic() > end:
                return False
            time.sleep(0.02)
        return True

    def read(self, request, url, number=None):
        number = number or random.randint(1, shop.PRODUCTS)
        with self.lock:
            answered = self.answered.get(number, 1)
            cookies = "; ".join(cookie for _, cookie in self.jar.values()) if self.fence else ""
        began = time.monotonic()
        answer, body = request(url, "GET", f"/product/{number}", headers={"Cookie": cookies} if cookies else {})
        took, version = time.monotonic() - began, json.loads(body)["version"]
        how = answer.getheader("X-Cache")
        with self.lock:
            self.counts["reads"] += 1
            self.cache[how] += 1
            self.took["read"].append(took)
            if how == "bypassed":
                self.bypassed.add(url)
            if version < answered:
                self.counts["stale"] += 1
                self.examples = self.examples or [f"{url}/product/{number}: {version} after {answered} ({how})"]

    def edit(self, request, url):
        """Writes, and looks at once what every worker shows: here an old version would show, if anywhere.

        That a cache is behind may last a millisecond. Readers that come by chance would not notice, and would find nothing
        stale whatever this shop did. So every worker has the product in its cache before, and is asked right after.
        """
        number = random.randint(1, shop.PRODUCTS)
        at = self.urls.index(url)
        # The next one is beside the other node: it hears last.
        round_trip = self.urls[at + 1 :] + self.urls[: at + 1]
        for worker in round_trip:
            self.read(request, worker, number)
        self.write(request, url, number)
        for worker in round_trip:
            self.read(request, worker, number)

    def write(self, request, url, number):
        began = time.monotonic()
        answer, body = request(url, "POST", f"/product/{number}", f"price={random.randint(1, 99)}")
        took, version = time.monotonic() - began, json.loads(body)["version"]
        with self.lock:
            self.counts["writes"] += 1
            self.took["write"].append(took)
            if answer.status != 200:
                self.counts["unconfirmed"] += 1  # 202: saved, and it does not claim that every cache knows
                return
            cookie = (answer.getheader("Set-Cookie") or "").partition(";")[0]
            if cookie:
                name, sequence = cookie.partition("=")[0], int(cookie.rpartition(".")[2])
                self.jar[name] = max(self.jar.get(name, (0, "")), (sequence, cookie))
            self.confirmed += 1
            self.answered[number] = max(self.answered.get(number, 1), version)

    def _work(self, operation, at):
        connections = {url: http.client.HTTPConnection(url.removeprefix("http://"), timeout=20) for url in self.urls}

        def request(url, *what, **more):
            try:
                connections[url].request(*what, **more)
                answer = connections[url].getresponse()
                body = answer.read()
            except (OSError, http.client.HTTPException):
                connections[url].close()
                raise
            if answer.status not in (200, 202):
                raise OSError(f"{answer.status} {body}")
            return answer, body

        while not self.over.is_set():
            url = at[next(self.turns) % len(at)]

            try:
                operation(request, url)
            except (OSError, http.client.HTTPException) as error:
                with self.lock:
                    self.counts["errors"] += 1
                    self.examples = self.examples or [f"{url}: {error!r}"]
        for connection in connections.values():
            connection.close()


def pause(load, running, operations, end):
    """A node stands still again and again; whether the load came to its end."""
    until = load.operations() + operations
    while load.operations() < until and time.monotonic() < end:
        running.nodes[OTHER].child.send_signal(signal.SIGSTOP)
        try:
            time.sleep(STANDS)
        finally:
            running.nodes[OTHER].child.send_signal(signal.SIGCONT)
        time.sleep(RUNS)
    return load.operations() >= until


def kill(load, running, operations, end):
    """A node is killed in the middle: (the load came to its end, hits after the node was back)."""
    part = operations // 3
    done = load.go_on(part, end)
    running.nodes[OTHER].kill()
    with load.lock:
        load.bypassed.clear()
    # Every worker must notice: those beside the dead node, and the others, which no longer hear it.
    if not running.always_trust:
        done &= load.go_on(0, end, lambda: len(load.bypassed) == len(load.urls))
    # Writes must be answered that its workers cannot hear of; APPLIED answers once the dead node counts as suspended.
    meanwhile = load.confirmed + ANSWERED_MEANWHILE
    done &= load.go_on(part, end, lambda: load.confirmed >= meanwhile)
    running.restart_node(OTHER)
    done &= load.go_on(0, end, running.trusted)
    hits = load.cache["hit"]
    done &= load.go_on(part, end)
    return done, load.cache["hit"] - hits


def milliseconds(took):
    # Inclusive: of few writes the p99 is about the slowest, and never slower than any was.
    cuts = statistics.quantiles(took, n=100, method="inclusive") if len(took) > 1 else [0] * 99
    return {"p50": round(cuts[49] * 1000, 1), "p99": round(cuts[98] * 1000, 1)}


def main():
    options = argparse.ArgumentParser(description="Does anybody ever read something stale?")
    mode = options.add_mutually_exclusive_group()
    mode.add_argument("--until", choices=("applied", "stored"), default="applied")
    mode.add_argument("--read-fence", action="store_true")
    mode.add_argument("--evermesh", choices=("on", "off"), default="on")
    fault = options.add_mutually_exclusive_group()
    fault.add_argument("--pause", action="store_true", help="stop a node again and again for less than a lease")
    fault.add_argument("--kill", action="store_true", help="kill a node in the middle, and start it again")
    options.add_argument("--always-trust", action="store_true", help="never read past a cache: shows why one must")
    options.add_argument("--operations", type=int, default=10_000, help="reads and writes; default: %(default)s")
    options.add_argument("--seconds", type=float, default=60, help="at most; default: %(default)s")
    options.add_argument("--binary", help="the evermesh to run")
    options = options.parse_args()
    evermesh = options.evermesh == "on"
    if (options.kill or options.pause) and not evermesh:
        raise SystemExit("there is no node to kill or to stop")
    until = "stored" if options.read_fence else options.until
    promised = evermesh and (options.read_fence or until == "applied") and not options.always_trust
    shop.end_in_order()
    with shop.Shop(options.binary, evermesh, until, options.always_trust) as running:
        for worker in running.workers:
            worker.until("trusting its cache", running.trusted)
        with Load(running.urls, options.read_fence) as load:
            began = time.monotonic()
            end, hits_after = began + options.seconds, None
            if options.kill:
                done, hits_after = kill(load, running, options.operations, end)
            elif options.pause:
                done = pause(load, running, options.operations, end)
            else:
                done = load.go_on(options.operations, end)
        seconds = time.monotonic() - began
    said = {
        "mode": "off" if not evermesh else "read-fence" if options.read_fence else until,
        "fault": "kill" if options.kill else "pause" if options.pause else None, "complete": done, **load.counts, **load.cache,
    }  # fmt: skip
    if options.kill:
        said["hit_after_kill"] = hits_after
    said.update(seconds=round(seconds, 1), operations_per_second=round(load.operations() / seconds))
    said.update({f"{what}_ms": milliseconds(took) for what, took in load.took.items()})
    if load.examples:
        said["first"] = load.examples[0]
    print(json.dumps(said))
    raise SystemExit(0 if done and not (promised and load.counts["stale"]) else 1)


if __name__ == "__main__":
    main()
