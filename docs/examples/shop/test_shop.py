"""The parts of the shop that a load would meet only by chance: what a cache drops, and changes that nobody published.

    python -m unittest test_shop      needs the binary: newest in target/, or installed, or named by SHOP_BINARY
"""

import http.client
import json
import os
import sys
import time
import unittest

import shop

WITHIN = 30.0  # seconds, on a busy machine


def get(url, path):
    connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=20)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.getheader("X-Cache"), answer.read()
    finally:
        connection.close()


class Running(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.shop = shop.Shop(os.environ.get("SHOP_BINARY"))
        cls.enterClassContext(cls.shop) if hasattr(cls, "enterClassContext") else cls.shop.__enter__()
        if not hasattr(cls, "enterClassContext"):
            cls.addClassCleanup(cls.shop.__exit__)
        sys.path.insert(0, str(cls.shop.directory / "generated"))

    def setUp(self):
        from cache import Cache

        self.cache = Cache()

    def keep(self, key, tags=()):
        self.assertEqual(self.cache.get(key, lambda: (key, tags)), (key, "filled"))
        self.assertEqual(self.cache.get(key, None), (key, "hit"))

    def kept(self):
        return sorted(self.cache.kept)

    def test_it_drops_what_is_named_and_nothing_else(self):
        for drops, left in (
            ({"keys": ["a"]}, ["ab", "b"]),
            ({"prefixes": ["a"]}, ["b"]),
            ({"tags": ["red"]}, ["a", "ab"]),
            ({"keys": ["a"], "tags": ["red"]}, ["ab"]),
            ({"everything": True}, []),
            ({}, ["a", "ab", "b"]),
        ):
            with self.subTest(drops):
                self.setUp()
                self.keep("a"), self.keep("ab"), self.keep("b", ["red"])
                self.cache.drop(**drops)
                self.assertEqual(self.kept(), left)

    def test_a_fill_that_was_overtaken_is_not_kept(self):
        for drops, keeps in (
            ({"keys": ["a"]}, False),
            ({"prefixes": ["a"]}, False),
            ({"tags": ["any"]}, False),
            ({"everything": True}, False),
            ({"keys": ["b"]}, True),
        ):
            with self.subTest(drops):
                self.setUp()

                def load():
                    self.cache.drop(**drops)  # after the database was read, before the value is kept
                    return "old", []

                self.assertEqual(self.cache.get("a", load), ("old", "filled"))
                self.assertEqual(self.kept(), ["a"] if keeps else [])
                self.assertEqual(self.cache.fills, {})

    def test_it_reads_past_itself_while_it_is_not_trusted(self):
        self.keep("a")
        self.cache.trusted = lambda: False
        self.assertEqual(self.cache.get("a", lambda: ("new", [])), ("new", "bypassed"))

    def test_a_change_whose_worker_died_before_it_published_reaches_every_cache(self):
        end = time.monotonic() + WITHIN
        for url in self.shop.urls:
            while get(url, "/product/3")[1] != "hit":
                self.assertLess(time.monotonic(), end)
        # What a worker does before it publishes; then it is dead.
        product, event = self.shop.database.write(3, 7, None)
        self.assertEqual(json.loads(get(self.shop.urls[0], "/product/3")[2])["price"], 13, "nobody was told yet")
        for url in self.shop.urls:
            while json.loads(get(url, "/product/3")[2])["version"] < product["version"]:
                self.assertLess(time.monotonic(), end, "nobody was ever told")
                time.sleep(0.05)
        while self.shop.database.unpublished(-1):
            self.assertLess(time.monotonic(), end, f"{event} is still there")
            time.sleep(0.05)

    def test_the_page_is_there(self):
        status, _, page = get(self.shop.urls[0], "/")
        self.assertEqual(status, 200)
        self.assertIn(b"A small web shop", page)


if __name__ == "__main__":
    unittest.main()
