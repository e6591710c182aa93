"""A subscriber that is killed: subscriber.py ADDRESS live|TOKEN|name:NAME. Prints what `evermesh subscribe` prints."""

import json
import sys

import evermesh_cache as evermesh
from evermesh.v1 import event_pb2 as ev


def say(**line):
    print(json.dumps(line), flush=True)


def place(offset):
    return f"{offset >> 40}:{offset & (1 << 40) - 1}"


class Subscriber(evermesh.Subscription):
    def _open(self):
        say(opened={})
        return super()._open()

    def _hear(self, kind, part, put):
        if kind != "delivery":
            say(**{kind: {}})
            return None, part.offset
        offsets = part.offsets or range(part.first_offset, part.first_offset + len(part.entries))
        for offset, entry in zip(offsets, part.entries):
            say(event={"id": entry.event.id}, origin=part.origin.node, sequence=place(entry.sequence),
                attempt=part.attempt, resume_token=f"{self.run_id.hex()}.{offset}")
        return None, offsets[-1]


def main(address, begin):
    channel = evermesh.connect(address)
    name = begin[5:] if begin.startswith("name:") else None
    subscriber = Subscriber(channel, ["shop"], None, None, durable_name=name)
    if "." in begin:
        run, offset = begin.split(".")
        subscriber.token = ev.ResumeToken(run=bytes.fromhex(run), offset=int(offset))
    subscriber.start()
    subscriber.join()


main(*sys.argv[1:])
