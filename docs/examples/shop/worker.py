"""One worker of the shop: a web server with a cache in its process.

worker.py --port 8001 --database shop.db --at unix:web-1.sock [--answer applied|stored] [--evermesh off]

    GET  /product/7   {"id": 7, "price": 12, "version": 3}, from the cache where it can be trusted
    POST /product/7   {"price": 13} changes it: writes the database, tells every cache, answers with the new version
    GET  /ready       200 once the cache has caught up: a load balancer sends nothing before
"""

import argparse
import base64
import json
import sqlite3
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import evermesh_cache as evermesh  # the file of docs/clients/python.md
from evermesh.v1 import event_pb2 as ev, event_replication_pb2 as er
from evermesh.v1 import event_replication_pb2_grpc as rpc

FENCE = "X-Evermesh-Fence"  # travels with the visitor, as a cookie would


class Database:
    """Products, in a file that all workers share."""

    def __init__(self, path):
        self.path, self.local = path, threading.local()

    def connection(self):
        if not hasattr(self.local, "connection"):
            self.local.connection = sqlite3.connect(self.path, timeout=20, isolation_level=None)
        return self.local.connection

    def read(self, product):
        query = "SELECT id, price, version FROM product WHERE id = ?"
        row = self.connection().execute(query, (product,)).fetchone()
        return row and dict(zip(("id", "price", "version"), row))

    def write(self, product, price):
        update = "UPDATE product SET price = ?, version = version + 1 WHERE id = ? RETURNING version"
        rows = self.connection().execute(update, (price, product)).fetchall()
        return rows and rows[0][0]


class NoCacheControl:
    """The same shop without evermesh: it keeps what it read, and nobody tells it."""

    def __init__(self):
        self.kept = {}

    def ready(self, timeout=None):
        return True

    def get(self, key, load):
        if key not in self.kept:
            self.kept[key] = load(key)
        return self.kept[key]


class Shop:
    def __init__(self, options):
        self.database, self.answer = Database(options.database), options.answer
        self.channel = None
        if options.evermesh == "off":
            self.cache = NoCacheControl()
        else:
            self.channel = evermesh.connect(options.at)
            self.node = rpc.EventReplicationStub(self.channel)
            self.cache = evermesh.Cache(self.channel, "shop")

    def load(self, key):
        return self.database.read(int(key.split(":")[1]))

    def read(self, product, fence):
        key = f"product:{product}"
        if fence and self.channel and not self.has_applied(fence):
            return self.load(key)  # this node has not heard of the change: read past the cache
        return self.cache.get(key, self.load)

    def has_applied(self, fence):
        """Read your own writes: has this node applied the change that this visitor made?"""
        token = ev.FenceToken.FromString(base64.b64decode(fence))
        request = er.FenceRequest(fence_token=token, this_node_only=True)
        request.wait_for.FromMilliseconds(500)
        try:
            return self.node.Fence(request, timeout=2).done
        except Exception:  # the node is away: what the cache holds cannot be trusted either
            return False

    def change(self, product, price):
        """Returns the status, the answer, and the fence of the change."""
        version = self.database.write(product, price)
        if not version:
            return 404, {"error": f"no product {product}"}, None
        answer = {"id": product, "price": price, "version": version}
        if not self.channel:
            return 200, answer, None
        until = er.Assurance.Value(f"ASSURANCE_{self.answer.upper()}")
        done = evermesh.invalidate(self.channel, "shop", keys=[f"product:{product}"], until=until)
        token = done.results[0].taken.fence_token
        # 202: it is written and on its way, and somebody is pending. The fence says when they are done.
        status = 200 if done.assured >= until else 202
        return status, answer, base64.b64encode(token.SerializeToString()).decode()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    shop = None

    def product(self):
        kind, _, number = self.path.strip("/").partition("/")
        return int(number) if kind == "product" and number.isdigit() else None

    def do_GET(self):
        if self.path == "/ready":
            ready = self.shop.cache.ready(0)
            return self.say(200 if ready else 503, {"ready": ready})
        if self.product() is None:
            return self.say(404, {"error": "there is /product/NUMBER"})
        found = self.shop.read(self.product(), self.headers.get(FENCE))
        self.say(200 if found else 404, found or {"error": "no such product"})

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        try:
            price = int(json.loads(body)["price"])
        except (ValueError, KeyError, TypeError):
            return self.say(400, {"error": 'send {"price": NUMBER}'})
        if self.product() is None:
            return self.say(404, {"error": "there is /product/NUMBER"})
        try:
            self.say(*self.shop.change(self.product(), price))
        except Exception as error:  # the change is in the database, and nobody was told in time
            self.say(503, {"error": f"try again: {error}"})

    def say(self, status, answer, fence=None):
        body = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        if fence:
            self.send_header(FENCE, fence)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--database", required=True)
    parser.add_argument("--at", default="unix:/run/evermesh/evermesh.sock")
    parser.add_argument("--answer", choices=["applied", "stored"], default="applied")
    parser.add_argument("--evermesh", choices=["on", "off"], default="on")
    options = parser.parse_args()
    Handler.shop = Shop(options)
    server = Server(("127.0.0.1", options.port), Handler)
    print(f"listening on {server.server_port}", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
