"""A publisher that is killed: publisher.py ADDRESS. Publishes the JSON lines of standard input, and says what is assured."""

import json
import sys

import evermesh_cache as evermesh
from evermesh.v1 import event_pb2 as ev


def main(address):
    channel = evermesh.connect(address)
    for line in sys.stdin:
        given = json.loads(line)
        event = ev.Event(id=given["id"], site="shop", type="t", key=given["key"], data=given["data"].encode())
        done = evermesh.publish(channel, [event], wait=30)
        assert done.results[0].HasField("taken"), done
        print(json.dumps({"id": given["id"], "assured": "stored"}), flush=True)


main(*sys.argv[1:])
