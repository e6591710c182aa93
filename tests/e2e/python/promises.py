"""The promises as a Python application sees them, with the library of docs/clients/python.md against a real node.

promises.py ADDRESS [CA CERT KEY]: `unix:PATH`, or `HOST:PORT` with the three files for mutual TLS. Prints `kill` when the node
is to be killed and started again, and goes on at the next line of standard input.
"""

import queue
import sys
import threading
import time

import grpc
import evermesh_cache as evermesh
from evermesh.v1 import event_pb2 as ev
from evermesh.v1 import event_replication_pb2 as er
from evermesh.v1 import event_replication_pb2_grpc as rpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
    ProtoReflectionDescriptorDatabase,
)

DEADLINE = 20  # seconds: nothing here waits for anything, so this only bounds a failure
RUN = f"{time.time_ns():x}"  # two runs against one mesh do not meet


def event(key, **fields):
    return ev.Event(site="shop", type="t", key=key, **fields)


def refused(call):
    try:
        call()
    except grpc.RpcError as error:
        trailers = dict(error.trailing_metadata() or ())
        return error.code().name, trailers.get("evermesh-reason")
    raise AssertionError("was not refused")


def wait(what, happened):
    end = time.monotonic() + DEADLINE
    while not happened():
        assert time.monotonic() < end, what
        time.sleep(0.005)


class Heard:
    """What a subscription heard."""

    def __init__(self, channel, bad=(), token=None, **options):
        self.keys, self.missed, self.bad, self.tries = [], [], set(bad), 0
        self.current = threading.Event()
        self.subscription = evermesh.Subscription(
            channel, ["shop"], self.apply, self.missed.append, self.current.set, **options)
        self.subscription.token = token
        self.subscription.start()
        assert self.current.wait(DEADLINE), "did not catch up"

    def apply(self, event):
        if event.key in self.bad:
            self.tries += 1
            raise ValueError(f"cannot apply {event.key}: {'ß€' * 400}")  # longer than a reason may be
        self.keys.append(event.key)

    def close(self):
        self.subscription.close()
        self.subscription.join(DEADLINE)
        assert not self.subscription.is_alive()


def publishing(channel, node):
    for until in ("ACCEPTED", "STORED", "REPLICATED", "APPLIED"):
        wanted = er.Assurance.Value(f"ASSURANCE_{until}")
        done = evermesh.publish(channel, [event(until)], until=wanted)
        assert done.assured == wanted, done
    # The same id is one event (P5).
    twice = [evermesh.publish(channel, [event("once", id=f"once-{RUN}")]) for _ in range(2)]
    first, second = (done.results[0].taken for done in twice)
    assert second.duplicate and second.fence_token == first.fence_token, twice
    fence = node.Fence(er.FenceRequest(fence_token=first.fence_token, this_node_only=True), timeout=DEADLINE)
    assert fence.done, fence

    # Pipelined, with counters: what a producer handed in before is not taken again.
    def stream(*counters):
        yield er.PublishStreamRequest(open=er.PublishStreamOpen(producer=f"import-{RUN}"))
        for first in counters:
            events = er.PublishStreamEvents(first_counter=first, events=[event(f"n{first}"), event(f"n{first + 1}")])
            yield er.PublishStreamRequest(events=events)

    answers = list(node.PublishStream(stream(1, 3, 5), timeout=DEADLINE))
    assert answers[0].opened.highest_counter == 0, answers
    assert answers[-1].assured.through_counter == 6, answers
    again = list(node.PublishStream(stream(5, 7), timeout=DEADLINE))
    assert again[0].opened.highest_counter == 6 and again[-1].assured.through_counter == 8, again


def limits(channel, node):
    limits = node.GetLimits(er.GetLimitsRequest(), timeout=DEADLINE)
    assert (limits.key_bytes_max, limits.publish_events_max) == (1024, 4096), limits
    large = bytes(limits.event_bytes_max)
    attributes = {f"a{n}": "" for n in range(limits.attributes_max + 1)}
    bad = {
        "KEY_TOO_LONG": event("k" * (limits.key_bytes_max + 1)),
        "EVENT_TOO_LARGE": event("k", data=large),
        "TOO_MANY_ATTRIBUTES": event("k", attributes=attributes),
        "SITE_MISSING": ev.Event(type="t"),
        "TYPE_MISSING": ev.Event(site="shop"),
        "ID_INVALID": event("k", id="with space"),
    }
    # One bad event, named, beside good ones.
    events = [event("good"), *bad.values()]
    results = evermesh.publish(channel, events).results
    assert results[0].HasField("taken"), results
    reasons = [result.refused.reason for result in results[1:]]
    assert [reason for reason in bad if reason != "ID_INVALID"] == reasons[:-1], reasons
    assert results[1].refused.field == "events[1].key", results[1]
    publish = lambda **request: refused(lambda: node.Publish(er.PublishRequest(**request), timeout=DEADLINE))
    assert publish() == ("INVALID_ARGUMENT", "EVENTS_MISSING")
    assert publish(events=[event("k")] * 4097) == ("INVALID_ARGUMENT", "TOO_MANY_EVENTS")
    assert publish(events=[event("k", data=bytes(2 << 20))])[0] in ("OUT_OF_RANGE", "RESOURCE_EXHAUSTED")
    assert refused(lambda: node.Fence(er.FenceRequest(), timeout=DEADLINE)) == ("INVALID_ARGUMENT", "TOKEN_INVALID")
    raw = channel.unary_unary("/evermesh.v1.EventReplication/Publish")
    for garbage in (b"\xff", b"\x0a\xff\xff\xff\xff\xff", b"\x0a\x02\x12\xff", bytes(range(256))):
        assert refused(lambda: raw(garbage, timeout=DEADLINE))[0] in ("INTERNAL", "INVALID_ARGUMENT")
    nobody = channel.unary_unary("/evermesh.v1.Nobody/Nothing")
    assert refused(lambda: nobody(b"", timeout=DEADLINE)) == ("UNIMPLEMENTED", "NO_ROUTE")
    evermesh.publish(channel, [event("still here")])
    described = ProtoReflectionDescriptorDatabase(channel)
    assert "evermesh.v1.EventReplication" in described.get_services()


def ending(node):
    """A deadline and a cancellation end a call, and nothing else."""
    opening = lambda: iter([er.SubscribeRequest(open=er.SubscribeOpen(sites=["shop"]))])
    held = queue.SimpleQueue()
    held.put(next(opening()))
    late = node.Subscribe(iter(held.get, None), timeout=0.2)
    assert refused(lambda: list(late)) == ("DEADLINE_EXCEEDED", None)
    held.put(None)
    held = queue.SimpleQueue()
    held.put(next(opening()))
    cancelled = node.Subscribe(iter(held.get, None), timeout=DEADLINE)
    next(cancelled)
    cancelled.cancel()
    assert refused(lambda: list(cancelled)) == ("CANCELLED", None)
    held.put(None)


def subscribing(channel, kill):
    heard = Heard(channel)
    named = Heard(channel, durable_name=f"python-{RUN}")
    assert named.missed == [["shop"]], "a name that nobody knows begins with missed"
    evermesh.publish(channel, [event("a"), event("b")])
    wait("a and b", lambda: heard.keys == ["a", "b"] and named.keys == ["a", "b"])

    kill()
    evermesh.publish(channel, [event("c")], wait=DEADLINE)
    for name, one in (("by token", heard), ("by name", named)):
        wait(f"c, {name}", lambda: "c" in one.keys)
    assert heard.keys == ["a", "b", "c"] and not heard.missed, (heard.keys, heard.missed)
    # What was not acknowledged on the disk when the node died comes again, the first missed included.
    assert named.keys[:2] == ["a", "b"] and named.keys[-1] == "c" and named.missed, named.keys

    newer = Heard(channel, durable_name=f"python-{RUN}")
    named.subscription.join(DEADLINE)
    assert not named.subscription.is_alive(), "the older one is told that it was taken over"
    evermesh.publish(channel, [event("d")])
    wait("d, by the newer one", lambda: newer.keys[-1:] == ["d"])
    assert not newer.missed and "d" not in named.keys

    # A place that this node does not know: missed, before anything else.
    newer.close()
    heard.close()
    stranger = Heard(channel, token=ev.ResumeToken(run=bytes(32), offset=7))
    assert stranger.missed == [["shop"]], stranger.missed
    stranger.close()


def rejecting(channel):
    heard = Heard(channel, bad=["bad"])
    evermesh.publish(channel, [event("good"), event("bad"), event("after")])
    wait("the dead letter", lambda: heard.keys == ["good", "after"])
    assert heard.tries == 5 and heard.missed == [["shop"]], (heard.tries, heard.missed)
    heard.close()


def rejecting_over_a_kill(channel, kill):
    """What was rejected last is not behind the place that is kept, though caught_up was told after it (P1)."""
    before = Heard(channel)
    place = before.subscription.token
    assert place, "there is a place to go on from before anything was applied"
    before.close()
    evermesh.publish(channel, [event("once bad")])
    heard = Heard(channel, bad=["once bad"], token=place)
    wait("the first try", lambda: heard.tries > 0)
    kill()
    heard.bad.clear()
    wait("the second", lambda: heard.keys == ["once bad"])
    assert not heard.missed, heard.missed
    heard.close()


def caching(channel):
    database = {"product:1": 0}
    cache = evermesh.Cache(channel, "shop")
    assert cache.ready(DEADLINE)
    wait("a lease", cache.subscription.is_fresh)
    for price in range(1, 30):
        cache.get("product:1", database.get)
        cache.get("other", database.get)
        database["product:1"] = price
        evermesh.invalidate(channel, "shop", keys=["product:1"], until=er.ASSURANCE_APPLIED)
        assert cache.get("product:1", database.get) == price
    assert "other" in cache.kept, "what did not change is kept"
    evermesh.invalidate(channel, "shop", prefixes=["oth"], until=er.ASSURANCE_APPLIED)
    assert "other" not in cache.kept
    cache.subscription.close()


def main(address, *files):
    def kill():
        print("kill", flush=True)
        assert sys.stdin.readline()

    with evermesh.connect(address, *files) as channel:
        node = rpc.EventReplicationStub(channel)
        publishing(channel, node)
        limits(channel, node)
        ending(node)
        caching(channel)
        rejecting(channel)
        rejecting_over_a_kill(channel, kill)
        # Last: the durable name stays behind, and everybody would wait for it.
        subscribing(channel, kill)
    print("every promise held", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
