// The promises as a Node application sees them, with the library of docs/clients/node.md against a real node.
//
// promises.js ADDRESS [CA CERT KEY]: `unix:PATH`, or `HOST:PORT` with the three files for mutual TLS. Prints `kill` when the node
// is to be killed and started again, and goes on at the next line of standard input. The same steps as promises.py.
'use strict';
const assert = require('node:assert/strict');
const readline = require('node:readline');
const path = require('node:path');
const evermesh = require(path.resolve('evermesh.js'));
const { call, grpc, publish, invalidate, Cache, Subscription } = evermesh;

const DEADLINE = 20000; // milliseconds: nothing here waits for anything, so this only bounds a failure
const RUN = process.hrtime.bigint().toString(36); // two runs against one mesh do not meet

const event = (key, fields) => ({ site: 'shop', type: 't', key, ...fields });

async function refused(promise) {
  try {
    await promise;
  } catch (error) {
    return [grpc.status[error.code], error.metadata && error.metadata.get('evermesh-reason')[0]];
  }
  throw new Error('was not refused');
}

async function wait(what, happened) {
  for (const end = Date.now() + DEADLINE; !happened(); ) {
    assert(Date.now() < end, what);
    await new Promise((done) => setTimeout(done, 5));
  }
}

/** What a subscription heard. */
class Heard {
  static async open(node, { bad = [], ...options } = {}) {
    const heard = Object.assign(new Heard(), { keys: [], missed: [], tries: 0 });
    await new Promise((done) => {
      heard.subscription = new Subscription(node, ['shop'], {
        apply: ({ key }) => {
          if (bad.includes(key)) {
            heard.tries++;
            throw new Error(`cannot apply ${key}: ${'ß€'.repeat(400)}`); // longer than a reason may be
          }
          heard.keys.push(key);
        },
        missed: (sites) => heard.missed.push(sites),
        caughtUp: done,
      }, options);
      heard.subscription.ended.catch((error) => { throw error; });
    });
    return heard;
  }
}

async function publishing(node) {
  for (const until of ['ACCEPTED', 'STORED', 'REPLICATED', 'APPLIED']) {
    const done = await publish(node, [event(until)], { until: `ASSURANCE_${until}` });
    assert.equal(done.assured, `ASSURANCE_${until}`);
  }
  // The same id is one event (P5).
  const twice = [];
  for (let n = 0; n < 2; n++) twice.push(await publish(node, [event('once', { id: `once-${RUN}` })]));
  const [first, second] = twice.map((done) => done.results[0].taken);
  assert(second.duplicate);
  assert.deepEqual(second.fence_token, first.fence_token);
  const fence = await call(node, 'Fence', { fence_token: first.fence_token, this_node_only: true });
  assert(fence.done);

  // Pipelined, with counters: what a producer handed in before is not taken again.
  const produce = async (...counters) => {
    const stream = node.PublishStream();
    stream.write({ open: { producer: `import-${RUN}` } });
    for (const n of counters) stream.write({ events: { first_counter: n, events: [event(`n${n}`), event(`n${n + 1}`)] } });
    stream.end();
    const answers = [];
    for await (const answer of stream) answers.push(answer);
    return [answers[0].opened.highest_counter, answers.at(-1).assured.through_counter];
  };
  assert.deepEqual(await produce(1, 3, 5), ['0', '6']);
  assert.deepEqual(await produce(5, 7), ['6', '8']);
}

async function limits(node) {
  const limits = await call(node, 'GetLimits', {});
  assert.deepEqual([limits.key_bytes_max, limits.publish_events_max], [1024, 4096]);
  const attributes = Object.fromEntries(Array.from({ length: limits.attributes_max + 1 }, (_, n) => [`a${n}`, '']));
  const bad = {
    KEY_TOO_LONG: event('k'.repeat(limits.key_bytes_max + 1)),
    EVENT_TOO_LARGE: event('k', { data: Buffer.alloc(limits.event_bytes_max) }),
    TOO_MANY_ATTRIBUTES: event('k', { attributes }),
    SITE_MISSING: { type: 't' },
    TYPE_MISSING: { site: 'shop' },
    ID_INVALID: event('k', { id: 'with space' }),
  };
  // One bad event, named, beside good ones.
  const { results } = await publish(node, [event('good'), ...Object.values(bad)]);
  assert(results[0].taken);
  assert.deepEqual(results.slice(1).map((result) => result.refused.reason), Object.keys(bad));
  assert.equal(results[1].refused.field, 'events[1].key');
  const refuses = (events) => refused(call(node, 'Publish', { events }));
  assert.deepEqual(await refuses([]), ['INVALID_ARGUMENT', 'EVENTS_MISSING']);
  assert.deepEqual(await refuses(Array(4097).fill(event('k'))), ['INVALID_ARGUMENT', 'TOO_MANY_EVENTS']);
  const [large] = await refuses([event('k', { data: Buffer.alloc(2 << 20) })]);
  assert(['OUT_OF_RANGE', 'RESOURCE_EXHAUSTED'].includes(large), large);
  assert.deepEqual(await refused(call(node, 'Fence', {})), ['INVALID_ARGUMENT', 'TOKEN_INVALID']);
  await publish(node, [event('still here')]);
}

/** A deadline and a cancellation end a call, and nothing else. */
async function ending(node) {
  const drain = async (stream, cancel) => {
    stream.write({ open: { sites: ['shop'] } });
    for await (const said of stream) if (said.opened && cancel) stream.cancel();
  };
  assert.deepEqual((await refused(drain(node.Subscribe({ deadline: Date.now() + 200 }))))[0], 'DEADLINE_EXCEEDED');
  assert.deepEqual((await refused(drain(node.Subscribe(), true)))[0], 'CANCELLED');
}

async function subscribing(node, kill) {
  const heard = await Heard.open(node);
  const named = await Heard.open(node, { durable_name: `node-${RUN}` });
  assert.deepEqual(named.missed, [['shop']], 'a name that nobody knows begins with missed');
  await publish(node, [event('a'), event('b')]);
  await wait('a and b', () => heard.keys.length === 2 && named.keys.length === 2);

  await kill();
  await publish(node, [event('c')], { wait: DEADLINE });
  await wait('c', () => heard.keys.includes('c') && named.keys.includes('c'));
  assert.deepEqual([heard.keys, heard.missed], [['a', 'b', 'c'], []]);
  assert.deepEqual(named.keys.slice(0, 2), ['a', 'b']);
  // What was not acknowledged on the disk when the node died comes again, the first missed included.
  assert.equal(named.keys.at(-1), 'c');

  const newer = await Heard.open(node, { durable_name: `node-${RUN}` });
  await named.subscription.ended; // the older one is told that it was taken over
  await publish(node, [event('d')]);
  await wait('d, by the newer one', () => newer.keys.at(-1) === 'd');
  assert(newer.missed.length === 0 && !named.keys.includes('d'));
  newer.subscription.close();
  heard.subscription.close();

  // A place that this node does not know: missed, before anything else.
  const stranger = await Heard.open(node, { resume_token: { run: Buffer.alloc(32), offset: '7' } });
  assert.deepEqual(stranger.missed, [['shop']]);
  stranger.subscription.close();
}

async function rejecting(node) {
  const heard = await Heard.open(node, { bad: ['bad'] });
  await publish(node, [event('good'), event('bad'), event('after')]);
  await wait('the dead letter', () => heard.keys.length === 2);
  assert.deepEqual([heard.keys, heard.tries, heard.missed], [['good', 'after'], 5, [['shop']]]);
  heard.subscription.close();
}

/** What was rejected last is not behind the place that is kept, though caught_up was told after it (P1). */
async function rejectingOverAKill(node, kill) {
  const before = await Heard.open(node);
  const resume_token = before.subscription.token;
  assert(resume_token, 'there is a place to go on from before anything was applied');
  before.subscription.close();
  await publish(node, [event('once bad')]);
  const bad = ['once bad'];
  const heard = await Heard.open(node, { bad, resume_token });
  await wait('the first try', () => heard.tries > 0);
  await kill();
  bad.pop();
  await wait('the second', () => heard.keys.length === 1);
  assert.deepEqual([heard.keys, heard.missed], [['once bad'], []]);
  heard.subscription.close();
}

async function caching(node) {
  const database = new Map([['product:1', 0]]);
  const load = (key) => database.get(key);
  const cache = new Cache(node, 'shop');
  await cache.ready;
  await wait('a lease', () => cache.subscription.isFresh());
  for (let price = 1; price < 30; price++) {
    await cache.get('product:1', load);
    await cache.get('other', load);
    database.set('product:1', price);
    await invalidate(node, 'shop', { keys: ['product:1'] }, { until: 'ASSURANCE_APPLIED' });
    assert.equal(await cache.get('product:1', load), price);
  }
  assert(cache.kept.has('other'), 'what did not change is kept');
  await invalidate(node, 'shop', { prefixes: ['oth'] }, { until: 'ASSURANCE_APPLIED' });
  assert(!cache.kept.has('other'));
  cache.subscription.close();
}

async function main(...address) {
  const lines = readline.createInterface({ input: process.stdin })[Symbol.asyncIterator]();
  const kill = async () => {
    console.log('kill');
    assert(!(await lines.next()).done);
  };
  const node = evermesh.connect(...address);
  await publishing(node);
  await limits(node);
  await ending(node);
  await caching(node);
  await rejecting(node);
  await rejectingOverAKill(node, kill);
  // Last: the durable name stays behind, and everybody would wait for it.
  await subscribing(node, kill);
  node.close();
  console.log('every promise held');
  process.exit(0);
}

main(...process.argv.slice(2));
