"""The shop's database: one SQLite file that all workers share.

Always: a change and the event that tells of it are stored in one transaction, so that neither a worker nor a node that
dies in between leaves a change that no cache will ever hear of.
"""

import sqlite3
import threading
import time
import uuid

SCHEMA = """
CREATE TABLE IF NOT EXISTS product (
    id INTEGER PRIMARY KEY, name TEXT, category TEXT, price INTEGER, stock INTEGER, version INTEGER
);
-- Changes that were not published yet.
CREATE TABLE IF NOT EXISTS outbox (event TEXT PRIMARY KEY, product INTEGER, since REAL);
"""
NAMES = ("Kettle", "Lamp", "Notebook", "Umbrella", "Clock", "Teapot", "Chair", "Basket")
CATEGORIES = ("kitchen", "office")


class Database:
    def __init__(self, path):
        self.path, self.mine = path, threading.local()

    def create(self, products):
        """Makes the file, with this many products."""
        self._here().execute("PRAGMA journal_mode = WAL")  # readers do not wait for writers
        self._here().executescript(SCHEMA)
        self._here().executemany(
            "INSERT INTO product VALUES (?, ?, ?, ?, 100, 1)",
            [(n, NAMES[n % len(NAMES)], CATEGORIES[n % len(CATEGORIES)], 10 + n) for n in range(1, products + 1)],
        )

    def read(self, number):
        """A product, or None."""
        row = self._here().execute("SELECT * FROM product WHERE id = ?", (number,)).fetchone()
        return dict(row) if row else None

    def count(self):
        """How many products there are, numbered from 1."""
        return self._here().execute("SELECT count(*) FROM product").fetchone()[0]

    def write(self, number, price, stock):
        """Changes a product, and notes in the same transaction what is to be published: (product, event), or None.

        What is None stays as it was.
        """
        event = str(uuid.uuid4())
        here = self._here()
        here.execute("BEGIN IMMEDIATE")
        try:
            here.execute(
                "UPDATE product SET price = coalesce(?, price), stock = coalesce(?, stock), version = version + 1"
                " WHERE id = ?",
                (price, stock, number),
            )
            product = self.read(number)
            if product:
                here.execute("INSERT INTO outbox VALUES (?, ?, ?)", (event, number, time.time()))
            here.execute("COMMIT")
        except BaseException:
            here.execute("ROLLBACK")
            raise
        return (product, event) if product else None

    def published(self, event):
        """An event is on a node's disk: evermesh takes it from there."""
        self._here().execute("DELETE FROM outbox WHERE event = ?", (event,))

    def unpublished(self, seconds):
        """Events of changes older than this that were not published, oldest first, at most 100: (event, product number)."""
        rows = self._here().execute(
            "SELECT event, product FROM outbox WHERE since < ? ORDER BY since LIMIT 100", (time.time() - seconds,)
        )
        return [tuple(row) for row in rows]

    def _here(self):
        """This thread's connection."""
        if not hasattr(self.mine, "connection"):
            self.mine.connection = sqlite3.connect(self.path, timeout=10, isolation_level=None)
            self.mine.connection.row_factory = sqlite3.Row
        return self.mine.connection
