"""The cache of one worker process, and what keeps it true.

Always: a value that was read before a change is not kept after it; where this process cannot know whether it heard
everything, it reads past the cache. Deliberately absent: a time to live.
"""

import threading

from evermesh.v1 import invalidation_pb2 as inv
from evermesh_cache import INVALIDATE, Subscription
from google.protobuf.message import DecodeError

# Values that are kept; the oldest goes first. A product takes about 200 bytes: 2 MB.
KEPT_MAX = 10_000


class Fill:
    """A value on its way from the database into the cache."""

    def __init__(self):
        self.spoiled = False


class Cache:
    """Values by key, each with its tags.

    The classic race: a reader misses and reads version 1 from the database; a writer stores version 2 and tells everyone to
    drop the key; the cache drops it, though nothing is there yet; then the slow reader puts version 1 in, where it stays.

    So every key would need a generation that an invalidation counts up: who fills notes it before reading the database, and
    keeps the value only if it did not move. Only fills under way ever compare it. Each of them therefore stands in `fills`
    before it reads, and an invalidation marks those that it concerns as spoiled: the same answer, and nothing to remember
    of keys that nobody is filling. Read after the mark was missed, the database shows the change, because it was stored
    there before it was published.
    """

    def __init__(self, trusted=lambda: True):
        self.trusted = trusted  # may what is kept here be shown now?
        self.kept, self.fills, self.lock = {}, {}, threading.Lock()

    def get(self, key, load, bypass=False):
        """The value of a key, and where it came from. `load()` reads the value, or None, and its tags."""
        # First whether it is trusted, then the value: what was answered before this read began is then applied here.
        if bypass or not self.trusted():
            return load()[0], "bypassed"
        with self.lock:
            if key in self.kept:
                return self.kept[key][0], "hit"
            fill = Fill()
            self.fills.setdefault(key, set()).add(fill)
        try:
            value, tags = load()
            with self.lock:
                if value is not None and not fill.spoiled:
                    self._keep(key, value, frozenset(tags))
        finally:
            with self.lock:
                self.fills[key].discard(fill)
                if not self.fills[key]:
                    del self.fills[key]
        return value, "filled"

    def drop(self, keys=(), tags=(), prefixes=(), everything=False):
        """Drops the union of what is named."""
        keys, tags, prefixes = set(keys), set(tags), tuple(prefixes)

        def named(key):
            return everything or key in keys or key.startswith(prefixes)

        with self.lock:
            if everything or tags or prefixes:
                gone = [key for key, (_, has) in self.kept.items() if named(key) or not tags.isdisjoint(has)]
            else:
                gone = keys
            for key in gone:
                self.kept.pop(key, None)
            for key, fills in self.fills.items():
                # Which tags a value has is known only once it is loaded: any fill may carry one of these.
                if tags or named(key):
                    for fill in fills:
                        fill.spoiled = True

    def _keep(self, key, value, tags):
        self.kept.pop(key, None)
        if len(self.kept) >= KEPT_MAX:
            del self.kept[next(iter(self.kept))]
        self.kept[key] = (value, tags)


class Follower(Subscription):
    """Hears a site and drops from a cache what others changed."""

    def __init__(self, channel, site, cache):
        ready = threading.Event()  # everything from before was heard: serve after this, not before
        super().__init__(channel, [site], self._drop, lambda sites: cache.drop(everything=True), ready.set)
        self.cache, self.ready = cache, ready
        cache.trusted = self.trusted

    def trusted(self):
        """Everything from before was heard, and no member's lease has run out by this process's own clock.

        That the stream is down for a moment changes nothing: a node counts whoever it granted a lease until that has run
        out, after its own restart too, and lets nobody's APPLIED or fence pass before.
        """
        return self.ready.is_set() and self.is_fresh()

    def _drop(self, event):
        try:
            drops = inv.Invalidation.FromString(event.data)
        except DecodeError:
            drops = None
        if drops is None or event.type != INVALIDATE or event.data_content_type != "application/protobuf":
            return self.cache.drop(everything=True)  # not known to this version
        self.cache.drop(drops.keys, drops.tags, drops.prefixes, drops.all)
