"""One worker process of the shop: HTTP in, the cache, the database, and its node's socket.

    GET  /product/ID   through the cache; after a read fence, if the browser carries a fence token
    POST /product/ID   price=…&stock=… into the database, then tells every cache to drop `product:ID`
    GET  /ready        200 once this worker may serve: a load balancer asks this

shop.py starts it. Without --at it is the same shop without evermesh.
"""

import argparse
import json
import pathlib
import signal
import sys
import threading
import time
import traceback
from http.cookies import CookieError, SimpleCookie
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs

import evermesh_cache
import grpc
from cache import Cache, Follower
from database import Database
from evermesh.v1 import event_pb2 as ev, event_replication_pb2 as er, invalidation_pb2 as inv
from evermesh.v1 import event_replication_pb2_grpc as rpc

SITE = "shop"
COOKIE = "evermesh-"  # one for each node that published: evermesh-web-1=JOURNAL.SEQUENCE
PUBLISH_WAITS = 10.0  # seconds
FENCE_WAITS = 0.5  # seconds; then the database answers
UNPUBLISHED_AFTER = 5.0  # seconds; a second event for the same change would do no harm
PAGE = pathlib.Path(__file__).with_name("page.html")
LARGEST = 2**63 - 1  # of an INTEGER in SQLite


class Mesh:
    """This worker's side of evermesh. It is made in the worker itself: grpcio does not survive a fork."""

    def __init__(self, at, until, cache, database):
        self.channel = evermesh_cache.connect(at)
        self.node = rpc.EventReplicationStub(self.channel)
        self.until = {"applied": er.ASSURANCE_APPLIED, "stored": er.ASSURANCE_STORED}[until]
        self.database = database
        self.fenced = {}  # origin: through which sequence this cache has applied everything
        self.follower = Follower(self.channel, SITE, cache)
        self.follower.start()
        threading.Thread(target=self._publish_what_is_left, daemon=True).start()

    def publish(self, event, number):
        """Tells every cache to drop a product: (it is as sure as wanted, the cookie to hand out or None)."""
        drops = inv.Invalidation(keys=[f"product:{number}"], reason="changed in the shop")
        # The id was stored with the change: however often this is tried at a node, it is one event.
        event = ev.Event(
            id=event, site=SITE, type=evermesh_cache.INVALIDATE, key=f"product:{number}",
            data=drops.SerializeToString(), data_content_type="application/protobuf",
        )  # fmt: skip
        try:
            answer = evermesh_cache.publish(self.channel, [event], self.until, PUBLISH_WAITS)
        except grpc.RpcError as error:
            print("not published yet:", error.code().name, error.details(), file=sys.stderr)
            return False, None
        result = answer.results[0]
        if result.WhichOneof("outcome") != "taken" or answer.assured < er.ASSURANCE_STORED:
            print("not published yet:", result, file=sys.stderr)
            return False, None
        self.database.published(event.id)
        token = result.taken.fence_token
        cookie = f"{COOKIE}{token.origin.node}={token.origin.journal.hex()}.{token.sequence}; Path=/; Max-Age=60; HttpOnly"
        return answer.assured >= self.until, cookie

    def applied_here(self, cookies):
        """The read fence: whether this cache has applied what the browser was told. If not, read past the cache.

        Anybody can make up a cookie, and gains the wait and the reading past the cache; a public shop would sign it.
        """
        for name, cookie in cookies.items():
            if not name.startswith(COOKIE):
                continue
            try:
                journal, sequence = cookie.value.split(".")
                journal, sequence = bytes.fromhex(journal), int(sequence)
                origin = (name[len(COOKIE) :], journal)
                if self.fenced.get(origin, 0) >= sequence:
                    continue
                token = ev.FenceToken(
                    origin=ev.Origin(node=origin[0], journal=journal), sequence=sequence, site=SITE
                )
            except (ValueError, TypeError):
                return False
            ask = er.FenceRequest(fence_token=token, this_node_only=True)
            ask.wait_for.FromMilliseconds(int(FENCE_WAITS * 1000))
            try:
                done = self.node.Fence(ask, timeout=2 * FENCE_WAITS).done
            except grpc.RpcError:
                done = False
            if not done:
                return False
            # It stays so, for whoever is trusted: a lease that ran out begins again only after everything was heard.
            self.fenced[origin] = max(self.fenced.get(origin, 0), sequence)
        return True

    def _publish_what_is_left(self):
        """Publishes what a worker that died, or whose node was away for long, stored and did not publish."""
        while True:
            try:
                for event, number in self.database.unpublished(UNPUBLISHED_AFTER):
                    self.publish(event, number)
            except Exception:  # whatever it is, the next round tries again
                traceback.print_exc()
            time.sleep(1)


class Shop(BaseHTTPRequestHandler):
    """One connection of a browser or of the load balancer."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    timeout = 60
    wbufsize = -1  # one packet for an answer

    def do_GET(self):
        server = self.server
        if self.path == "/":
            return self.answer(200, PAGE.read_bytes(), kind="text/html; charset=utf-8")
        if self.path == "/workers":
            return self.answer(200, {"workers": server.workers, "until": server.until, "products": server.database.count()})
        if self.path == "/ready":
            ready = server.mesh is None or server.mesh.follower.ready.is_set()
            return self.answer(200 if ready else 503, {"ready": ready, "trusted": server.cache.trusted()})
        number = self.number()
        if number is None:
            return self.answer(404, {"error": "no such page"})
        try:
            cookies = SimpleCookie(self.headers.get("Cookie", ""))
            bypass = server.mesh is not None and not server.mesh.applied_here(cookies)
        except CookieError:
            bypass = True

        def load():
            product = server.database.read(number)
            return product, [f"category:{product['category']}"] if product else []

        product, how = server.cache.get(f"product:{number}", load, bypass)
        if product is None:
            return self.answer(404, {"error": "no such product"})
        self.answer(200, product, {"X-Cache": how})

    def do_POST(self):
        server, number = self.server, self.number()
        try:
            length = int(self.headers.get("Content-Length", 0))
            if not 0 <= length <= 1000:
                raise ValueError("too long")
            form = parse_qs(self.rfile.read(length).decode())
            price, stock = (int(form[name][0]) if name in form else None for name in ("price", "stock"))
            if any(value is not None and not 0 <= value <= LARGEST for value in (price, stock)):
                raise ValueError("out of range")
        except ValueError:
            self.close_connection = True  # what is left of the body would be taken for the next request
            return self.answer(400, {"error": "price and stock are whole numbers"})
        if self.headers.get("Origin") not in (None, *server.workers):
            return self.answer(403, {"error": "another site's page may not change the shop"})
        written = server.database.write(number, price, stock) if number is not None else None
        if written is None:
            return self.answer(404, {"error": "no such product"})
        product, event = written
        if server.mesh is None:
            server.cache.drop([f"product:{number}"])  # its own cache is all that it can reach
            return self.answer(200, product)
        sure, cookie = server.mesh.publish(event, number)
        # 202: it is saved, and some cache may not know it yet. Never claim more than that.
        self.answer(200 if sure else 202, product, {"Set-Cookie": cookie} if cookie else {})

    def number(self):
        top, _, number = self.path[1:].partition("/")
        known = top == "product" and number.isascii() and number.isdigit() and len(number) < 10
        return int(number) if known else None

    def answer(self, status, body, headers=None, kind="application/json"):
        body = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        headers = {"Content-Type": kind, "Content-Length": len(body), "Cache-Control": "no-store", **(headers or {})}
        if self.headers.get("Origin") in self.server.workers:
            # The page of one worker shows what the others say.
            headers["Access-Control-Allow-Origin"] = self.headers["Origin"]
            headers["Access-Control-Allow-Credentials"] = "true"
            headers["Access-Control-Expose-Headers"] = "X-Cache"
        for name, value in headers.items():
            self.send_header(name, str(value))
        self.end_headers()
        self.wfile.write(body)
        self.wfile.flush()

    def log_message(self, format, *args):
        """Nothing for each request: errors go to standard error by themselves."""


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128


def main():
    options = argparse.ArgumentParser()
    options.add_argument("--port", type=int, required=True)
    options.add_argument("--database", required=True)
    options.add_argument("--workers", required=True, help="the URLs of all workers, with commas")
    options.add_argument("--at", help="unix:SOCKET of this worker's node")
    options.add_argument("--until", choices=("applied", "stored"), default="applied")
    options.add_argument("--always-trust", action="store_true", help="never read past the cache: wrong, to show why")
    options = options.parse_args()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for shop.py, which ends everything in order
    server = Server(("127.0.0.1", options.port), Shop)
    server.workers = options.workers.split(",")
    server.database, server.cache, server.mesh = Database(options.database), Cache(), None
    server.until = options.until if options.at else "off"
    if options.at:
        server.mesh = Mesh(options.at, options.until, server.cache, server.database)
    if options.always_trust:
        server.cache.trusted = lambda: True
    server.serve_forever()


if __name__ == "__main__":
    main()
