// The official Centrifuge client, as it is, against the realtime hub. Started by the test
// `official` of crate todoke-hub, which gives the server's address and takes orders at /control.
import assert from 'node:assert/strict';
import { afterEach, test } from 'node:test';
import { Centrifuge } from 'centrifuge';
import WebSocket from 'ws';

const address = process.env.TODOKE_ADDRESS;
const url = `ws://${address}/connection/websocket`;
const DEADLINE_MS = 15_000;

const clients = [];
afterEach(() => {
  for (const client of clients.splice(0)) client.disconnect();
});

async function order(body) {
  const response = await fetch(`http://${address}/control`, { method: 'POST', body: JSON.stringify(body) });
  assert.equal(response.status, 200);
  return response.json();
}

let nUsers = 0;
/** A user nobody else uses, so that tests do not meet. */
const newUser = () => `user${(nUsers += 1)}`;

function token(user, channels = [], more = {}) {
  const list = channels.map((channel) => (typeof channel === 'string' ? { name: channel } : channel));
  return JSON.stringify({ user, session: `session of ${user}`, channels: list, ...more });
}

/** A client that writes down everything that happens to it, in order. */
function client(connectToken, options = {}) {
  const created = new Centrifuge(url, {
    websocket: WebSocket, token: connectToken, minReconnectDelay: 10, maxReconnectDelay: 50, timeout: 5_000, ...options,
  });
  clients.push(created);
  const log = [];
  const waiting = new Set();
  created.log = log;
  const note = (event, context) => {
    log.push({ event, ...context });
    for (const check of waiting) check();
  };
  const events = ['connecting', 'connected', 'disconnected', 'message', 'error', 'subscribing', 'subscribed', 'unsubscribed', 'publication', 'join', 'leave'];
  for (const event of events) created.on(event, (context) => note(event, context));
  created.note = note;
  created.until = (what, isThere) => new Promise((resolve, reject) => {
    const timer = setTimeout(() => {
      waiting.delete(check);
      reject(new Error(`${what} did not happen: ${JSON.stringify(log)}`));
    }, DEADLINE_MS);
    const check = () => {
      const found = isThere(log);
      if (!found) return;
      clearTimeout(timer);
      waiting.delete(check);
      resolve(found);
    };
    waiting.add(check);
    check();
  });
  created.event = (event, nth = 1) =>
    created.until(`${event} ${nth}`, () => log.filter((entry) => entry.event === event)[nth - 1]);
  created.offsets = (channel) =>
    log.filter((entry) => entry.event === 'publication' && entry.channel === channel).map((entry) => entry.offset);
  created.cut = () => created._transport._transport.terminate();
  return created;
}

/** A client-side subscription whose events go into the log of its client. */
function subscription(owner, channel, options) {
  const sub = owner.newSubscription(channel, options);
  for (const event of ['subscribing', 'subscribed', 'unsubscribed', 'publication', 'join', 'leave', 'error']) {
    sub.on(event, (context) => owner.note(event, context));
  }
  return sub;
}

const range = (from, to) => Array.from({ length: to - from + 1 }, (_, index) => from + index);

test('connect gives the server-side subscriptions and their publications', async () => {
  const user = newUser();
  const channel = `guardian:${user}`;
  const it = client(token(user, [channel, { name: 'system', live: true }]));
  it.connect();
  const connected = await it.event('connected');
  assert.equal(connected.transport, 'websocket');
  const subscribed = await it.until('subscribed', (log) => log.find((entry) => entry.event === 'subscribed' && entry.channel === channel));
  assert.deepEqual(subscribed.streamPosition, { offset: 0, epoch: 'e1' });
  assert.equal(subscribed.recoverable, true);
  assert.equal(subscribed.wasRecovering, false);
  await order({ do: 'publish', channel, n: 3 });
  await it.event('publication', 3);
  assert.deepEqual(it.offsets(channel), [1, 2, 3]);
  assert.deepEqual(it.log.at(-1).data, { n: 3 });
  await order({ do: 'sample', channel: 'system' });
  const sample = await it.event('publication', 4);
  assert.deepEqual([sample.channel, sample.data, sample.offset], ['system', { sample: 1 }, undefined]);
});

test('client-side subscriptions: allowed, denied, unsubscribed, history', async () => {
  const it = client(token(newUser()));
  const denied = subscription(it, 'guardian:somebody-else');
  denied.subscribe();
  const open = subscription(it, 'open:history');
  open.subscribe();
  it.connect();
  await open.ready(DEADLINE_MS);
  const unsubscribed = await it.event('unsubscribed');
  assert.deepEqual([unsubscribed.channel, unsubscribed.code, unsubscribed.reason], ['guardian:somebody-else', 103, 'permission denied']);
  await order({ do: 'publish', channel: 'open:history', n: 10 });
  await it.event('publication', 10);
  assert.deepEqual(it.offsets('open:history'), range(1, 10));
  const position = await open.history();
  assert.deepEqual([position.publications.length, position.offset, position.epoch], [0, 10, 'e1']);
  const newest = await open.history({ limit: 3, reverse: true });
  assert.deepEqual(newest.publications.map((publication) => publication.offset), [10, 9, 8]);
  const page = await it.history('open:history', { limit: 4, since: { offset: 2, epoch: 'e1' } });
  assert.deepEqual(page.publications.map((publication) => publication.data.n), [3, 4, 5, 6]);
  await assert.rejects(open.history({ limit: 1, since: { offset: 2, epoch: 'e0' } }), { code: 112 });
  await assert.rejects(it.history('open:never', { limit: 1 }), { code: 103 });
  await assert.rejects(open.publish({ not: 'allowed' }), { code: 103 });
  open.unsubscribe();
  await it.rpc('echo', 1);
  await order({ do: 'publish', channel: 'open:history', n: 1 });
  await it.rpc('echo', 2);
  assert.deepEqual(it.offsets('open:history'), range(1, 10), 'nothing after the unsubscribe');
  open.subscribe();
  await open.ready(DEADLINE_MS);
  const again = it.log.findLast((entry) => entry.event === 'subscribed');
  assert.deepEqual([again.wasRecovering, again.recovered], [true, true]);
  await it.event('publication', 11);
  assert.deepEqual(it.offsets('open:history'), range(1, 11), 'and what was missed with the next subscribe');
});

test('presence, join and leave', async () => {
  const users = [newUser(), newUser()];
  const [first, second] = users.map((user) => client(token(user, [], { info: { name: user } })));
  const rooms = [first, second].map((it) => subscription(it, 'room:1', { joinLeave: true }));
  first.connect();
  rooms[0].subscribe();
  await rooms[0].ready(DEADLINE_MS);
  second.connect();
  rooms[1].subscribe();
  const joined = await first.until('join of the second', (log) => log.find((entry) => entry.event === 'join' && entry.info.user === users[1]));
  assert.deepEqual(joined.info.connInfo, { name: users[1] });
  assert.deepEqual(joined.info.chanInfo, { seat: users[1] });
  const { clients: present } = await rooms[0].presence();
  assert.deepEqual(Object.values(present).map((info) => info.user).sort(), users);
  assert.deepEqual(await rooms[0].presenceStats(), { numClients: 2, numUsers: 2 });
  second.disconnect();
  const left = await first.event('leave');
  assert.equal(left.info.user, users[1]);
  assert.deepEqual(await first.presenceStats('room:1'), { numClients: 1, numUsers: 1 });
});

test('calls', async () => {
  const user = newUser();
  const it = client(token(user));
  it.connect();
  assert.deepEqual((await it.rpc('echo', { a: ['届け', 'a\nb', null] })).data, { a: ['届け', 'a\nb', null] });
  assert.deepEqual((await it.rpc('who', null)).data, { user });
  await assert.rejects(it.rpc('fail', {}), { code: 450, message: 'as asked' });
  await assert.rejects(it.rpc('nothing', {}), { code: 104 });
  // Many commands in one frame, and replies joined by line breaks.
  it.startBatching();
  const calls = range(1, 50).map((n) => it.rpc('echo', n));
  it.stopBatching();
  assert.deepEqual((await Promise.all(calls)).map((reply) => reply.data), range(1, 50));
});

test('tokens are renewed', async () => {
  const user = newUser();
  let nTokens = 0;
  const getToken = async () => token(user, [], { ttl_s: 1, n: (nTokens += 1) });
  const it = client('', { getToken });
  it.connect();
  await it.event('connected');
  const renewals = new Promise((resolve) => {
    const look = setInterval(() => nTokens >= 3 && resolve(clearInterval(look)), 50);
  });
  await renewals;
  assert.equal(it.log.filter((entry) => entry.event === 'connecting').length, 1, 'on the same connection');
  const sub = subscription(it, 'expiring:1', { token: '1', getToken: async () => '2' });
  sub.subscribe();
  await sub.ready(DEADLINE_MS);
  await new Promise((resolve) => {
    const refresh = sub._refresh.bind(sub);
    sub._refresh = () => resolve(refresh());
  });
  await it.rpc('echo', 1);
  assert.equal(sub.state, 'subscribed');
});

test('a token that was not renewed ends the connection, and the next one has a new token', async () => {
  const user = newUser();
  let isFirst = true;
  const getToken = async () => token(user, [], { ttl_s: 60 });
  const it = client(token(user, [], { ttl_s: 50 }), { getToken });
  it.connect();
  await it.event('connected');
  await order({ do: 'advance', seconds: 60 });
  const connecting = await it.event('connecting', 2);
  assert.deepEqual([connecting.code, connecting.reason], [3005, 'connection expired']);
  await it.event('connected', 2);

  const expired = client(token(user, [], { refusal: 'expired' }), {
    getToken: async () => {
      assert.ok(isFirst);
      isFirst = false;
      return token(user);
    },
  });
  expired.connect();
  await expired.event('connected');
  assert.equal(expired.log.find((entry) => entry.event === 'error').error.code, 109);
});

test('bad tokens and ended accounts do not come back', async () => {
  const bad = client('nonsense');
  bad.connect();
  assert.equal((await bad.event('disconnected')).code, 3500);
  const user = newUser();
  const it = client(token(user));
  it.connect();
  await it.event('connected');
  await order({ do: 'end', user });
  assert.equal((await it.event('disconnected')).code, 3500);
  const moved = newUser();
  const other = client(token(moved));
  other.connect();
  await other.event('connected');
  await order({ do: 'disconnect', user: moved, code: 3011 });
  assert.equal((await other.event('connecting', 2)).code, 3011);
  await other.event('connected', 2);
});

test('a right that ends takes its subscription along', async () => {
  const user = newUser();
  const it = client(token(user, [`facility:${user}:claims`]));
  it.connect();
  await it.event('subscribed');
  await order({ do: 'unsubscribe', user, channel: `facility:${user}:claims` });
  assert.equal((await it.event('unsubscribed')).channel, `facility:${user}:claims`);
});

test('after a forced cut the ring or the record gives what was missed', async () => {
  const user = newUser();
  const channel = `guardian:${user}`;
  const it = client(token(user, [channel]));
  const sub = subscription(it, `open:${user}`);
  sub.subscribe();
  it.connect();
  await it.event('subscribed', 2);
  let expected = 0;
  // The ring of this server holds five.
  for (const n of [3, 40]) {
    it.cut();
    await it.until('cut', () => it.state === 'connecting');
    await order({ do: 'publish', channel, n });
    await order({ do: 'publish', channel: `open:${user}`, n });
    expected += n;
    await it.until('both caught up', () => it.offsets(channel).length >= expected && it.offsets(`open:${user}`).length >= expected);
    assert.deepEqual(it.offsets(channel), range(1, expected));
    assert.deepEqual(it.offsets(`open:${user}`), range(1, expected));
  }
  await order({ do: 'publish', channel, n: 1 });
  await it.until('live again', () => it.offsets(channel).at(-1) === expected + 1);
});

test('a restart of the server loses nothing, even what was never handed over', async () => {
  const user = newUser();
  const channel = `guardian:${user}`;
  const it = client(token(user, [channel]));
  it.connect();
  await it.event('subscribed');
  await order({ do: 'publish', channel, n: 2 });
  await order({ do: 'commit', channel, n: 2 });
  await order({ do: 'restart' });
  const connecting = await it.event('connecting', 2);
  assert.equal(connecting.code, 3001);
  await it.event('publication', 4);
  assert.deepEqual(it.offsets(channel), [1, 2, 3, 4]);
  assert.equal(it.log.filter((entry) => entry.event === 'subscribed').at(-1).recovered, true);
});

test('a slow consumer is cut, comes back, and misses nothing', async () => {
  const user = newUser();
  const channel = `guardian:${user}`;
  const it = client(token(user, [channel]));
  it.connect();
  await it.event('subscribed');
  const socket = it._transport._transport._socket;
  socket.pause();
  let n = 0;
  // More than the kernel and the queue of the connection take together.
  while ((await order({ do: 'connections' })).connections > 0 && n < 400_000) {
    await order({ do: 'publish', channel, n: 20_000 });
    n += 20_000;
  }
  socket.resume();
  const connecting = await it.event('connecting', 2);
  assert.deepEqual([connecting.code, connecting.reason], [3008, 'slow']);
  const seen = it.offsets(channel).length;
  assert.ok(seen < n);
  assert.deepEqual(it.offsets(channel), range(1, seen), 'in order until the cut');
  const back = await it.event('subscribed', 2);
  // So much was missed that the client must load a snapshot, and it is told so.
  assert.deepEqual([back.wasRecovering, back.recovered, back.streamPosition.offset], [true, false, n]);
});

test('another database is not mistaken for the old one', async () => {
  const user = newUser();
  const channel = `guardian:${user}`;
  const it = client(token(user, [channel]));
  it.connect();
  await it.event('subscribed');
  await order({ do: 'publish', channel, n: 3 });
  await it.event('publication', 3);
  await order({ do: 'new_epoch', epoch: 'e2' });
  const back = await it.event('subscribed', 2);
  assert.deepEqual([back.wasRecovering, back.recovered], [true, false]);
  assert.deepEqual(back.streamPosition, { offset: 0, epoch: 'e2' });
  await order({ do: 'publish', channel, n: 1 });
  const fresh = await it.event('publication', 4);
  assert.equal(fresh.offset, 1);
});

test('pings keep a quiet connection', async () => {
  const it = client(token(newUser()), { maxServerPingDelay: 15_000 });
  it.connect();
  await it.event('connected');
  let nPings = 0;
  const handle = it._handleServerPing.bind(it);
  const three = new Promise((resolve) => {
    it._handleServerPing = (next) => {
      handle(next);
      nPings += 1;
      if (nPings === 3) resolve();
    };
  });
  await three;
  assert.equal(it.log.filter((entry) => entry.event === 'connecting').length, 1);
});
