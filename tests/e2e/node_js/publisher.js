// A publisher that is killed: publisher.js ADDRESS. Publishes the JSON lines of standard input, and says what is assured.
'use strict';
const assert = require('node:assert/strict');
const path = require('node:path');
const readline = require('node:readline');
const { connect, publish } = require(path.resolve('evermesh.js'));

async function main(address) {
  const node = connect(address);
  for await (const line of readline.createInterface({ input: process.stdin })) {
    const { id, key, data } = JSON.parse(line);
    const event = { id, site: 'shop', type: 't', key, data: Buffer.from(data) };
    const done = await publish(node, [event], { wait: 30000 });
    assert(done.results[0].taken, JSON.stringify(done));
    console.log(JSON.stringify({ id, assured: 'stored' }));
  }
  node.close();
}

main(...process.argv.slice(2));
