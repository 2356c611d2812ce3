// Follows the intents of sessions, visitors and customers: one JSON line for everything new.
//
//   npm install
//   node consume.mjs BROKERS [SCHEMAS [INTENTS_TOPIC VISITORS_TOPIC USERS_TOPIC [QUIET_S]]]
//
// SCHEMAS is a folder of .avsc files, all versions. With QUIET_S it ends after so many seconds without a record.

import { randomUUID } from 'node:crypto';
import { readFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import avro from 'avsc';
import { Kafka, logLevel } from 'kafkajs';

const [brokers, schemas = 'schemas/landed', intents = 'web.session-intents.v1',
  visitors = 'web.visitor-intents.v1', users = 'web.user-intents.v1', quiet = 'Infinity'] = process.argv.slice(2);

// -- decoding
// Wire format: a zero byte, the writer's schema id in 4 bytes, the Avro body.
function decoderOf(folder, name) {
  const version = (file) => Number(file.match(/\.v(\d+)\.avsc$/)[1]);
  const files = readdirSync(folder).filter((file) => file.startsWith(`${name}.v`));
  files.sort((one, other) => version(one) - version(other));
  const types = files.map((file) => avro.Type.forSchema(JSON.parse(readFileSync(join(folder, file), 'utf8'))));
  const reader = types.at(-1);
  const writers = new Map(types.map((type) => [
    type.fingerprint('sha256').readUInt32BE(0) & 0x7fffffff,
    { type, resolver: reader.createResolver(type) },
  ]));
  return (message) => {
    const id = message.readUInt32BE(1);
    if (message[0] !== 0 || !writers.has(id)) {
      throw new Error(`schema id ${id}: a newer version? Known are ${[...writers.keys()]}`);
    }
    return reader.fromBuffer(message.subarray(5), writers.get(id).resolver);
  };
}
// -- end

// -- sessions
// The newest revision of each session; in earnest, a table of yours with session_id as its key.
const revisions = new Map();
function isNewSession(record) {
  if (record.revision <= (revisions.get(record.session_id) ?? -1)) return false;
  revisions.set(record.session_id, record.revision);
  revisions.delete(record.supersedes);
  return true;
}
// -- end

// -- visitors
// The latest session of each visitor; a tombstone (null) erases it.
const latest = new Map();
function isNewVisitor(visitorId, record) {
  if (record === null) return latest.delete(visitorId);
  const known = latest.get(visitorId);
  const order = (r) => [r.closed_at - known.closed_at, r.started_at - known.started_at, r.revision - known.revision];
  if (known && !(order(record).find((difference) => difference !== 0) > 0)) return false;
  latest.set(visitorId, { closed_at: record.closed_at, started_at: record.started_at, revision: record.revision });
  return true;
}
// -- end

// -- users
// Each customer's record; a tombstone (null) forgets it. The last in the log counts: a session that is withdrawn
// takes a record back in time.
const customers = new Map();
function isNewUser(userId, record) {
  if (record === null) return customers.delete(userId);
  customers.set(userId, record);
  return true;
}
// -- end

function tell(of, record, ...names) {
  console.log(JSON.stringify({ of, ...Object.fromEntries(names.map((name) => [name, record[name]])) }));
}

function take(topic, key, value) {
  if (topic === intents) {
    const record = decodeIntent(value);
    if (isNewSession(record)) {
      tell('session', record, 'session_id', 'revision', 'is_final', 'supersedes', 'top_intent');
    }
    return;
  }
  if (topic === users) {
    const record = value === null ? null : decodeUser(value);
    if (!isNewUser(key, record)) return;
    if (record === null) console.log(JSON.stringify({ forgotten: key }));
    else tell('user', record, 'user_id', 'session_id', 'is_final', 'attribution', 'sessions');
    return;
  }
  const record = value === null ? null : decodeVisitor(value);
  if (!isNewVisitor(key, record)) return;
  if (record === null) console.log(JSON.stringify({ erased: key }));
  else tell('visitor', record, 'visitor_id', 'session_id', 'closed_at', 'embedding_space');
}

const decodeIntent = decoderOf(schemas, 'session_intent');
const decodeVisitor = decoderOf(schemas, 'visitor_intent');
const decodeUser = decoderOf(schemas, 'user_intent');

// -- consumer
const kafka = new Kafka({ brokers: brokers.split(','), logLevel: logLevel.ERROR });
const consumer = kafka.consumer({
  groupId: `example-${randomUUID()}`, // a view is read whole: a group of its own each time
  readUncommitted: false,
});
// -- end
await consumer.connect();
await consumer.subscribe({ topics: [intents, visitors, users], fromBeginning: true });
let heard = null;
await consumer.run({
  autoCommit: false,
  eachMessage: async ({ topic, message }) => {
    heard = Date.now();
    try {
      take(topic, message.key.toString(), message.value);
    } catch (error) {
      console.error(error.message); // thrown on, kafkajs would hand in the same message again and again
      process.exit(1);
    }
  },
});
while (heard === null || Date.now() - heard < 1000 * Number(quiet)) {
  await new Promise((resolve) => setTimeout(resolve, 100));
}
await consumer.disconnect();
