// A subscriber that is killed: subscriber.js ADDRESS live|TOKEN|name:NAME. Prints what `evermesh subscribe` prints.
'use strict';
const fs = require('node:fs');
const path = require('node:path');
const { connect, Subscription } = require(path.resolve('evermesh.js'));

// Written before anything is acknowledged.
const say = (line) => fs.writeSync(1, `${JSON.stringify(line)}\n`);
const place = (n) => `${BigInt(n) >> 40n}:${BigInt(n) & ((1n << 40n) - 1n)}`;

class Subscriber extends Subscription {
  once() {
    say({ opened: {} });
    return super.once();
  }

  async hear(said, stream) {
    const kind = ['missed', 'caught_up'].find((kind) => said[kind]);
    if (kind) {
      say({ [kind]: {} });
      return { rejected: null, through: BigInt(said[kind].offset) };
    }
    return super.hear(said, stream);
  }
}

const [address, begin] = process.argv.slice(2);
const options = {};
if (begin.startsWith('name:')) options.durable_name = begin.slice(5);
else if (begin.includes('.')) {
  const [run, offset] = begin.split('.');
  options.resume_token = { run: Buffer.from(run, 'hex'), offset };
}
const subscriber = new Subscriber(connect(address), ['shop'], {
  apply(event, { offset, origin, attempt, sequence }) {
    const resume_token = `${subscriber.runId.toString('hex')}.${offset}`;
    say({ event: { id: event.id }, origin: origin.node, sequence: place(sequence), attempt, resume_token });
  },
}, options);
subscriber.ended.catch((error) => { throw error; });
