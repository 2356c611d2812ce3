"""Follows the intents of sessions, visitors and customers: one JSON line for everything new.

Needs nothing of the project that writes them.

    pip install confluent-kafka fastavro
    python consume.py BROKERS [SCHEMAS [INTENTS_TOPIC VISITORS_TOPIC USERS_TOPIC [QUIET_S]]]

SCHEMAS is a folder of .avsc files, all versions. With QUIET_S it ends after so many seconds without a record.
"""

import io
import json
import struct
import sys
import time
import uuid
from pathlib import Path

import fastavro
from confluent_kafka import Consumer, KafkaException
from fastavro.schema import fingerprint, to_parsing_canonical_form


# -- decoding
class Decoder:
    """Wire format: a zero byte, the writer's schema id in 4 bytes, the Avro body."""

    def __init__(self, folder, name):
        files = sorted(Path(folder).glob(f"{name}.v*.avsc"), key=lambda file: int(file.suffixes[0][2:]))
        versions = [json.loads(file.read_text("utf-8")) for file in files]
        self._writers = {
            self._id_of(each): fastavro.parse_schema(each, named_schemas={}) for each in versions
        }
        self._reader = fastavro.parse_schema(versions[-1], named_schemas={})

    @staticmethod
    def _id_of(schema):
        digest = fingerprint(to_parsing_canonical_form(schema), "sha256")
        return int(digest[:8], 16) & 0x7FFFFFFF

    def __call__(self, message):
        magic, schema_id = struct.unpack_from(">BI", message)
        if magic != 0 or schema_id not in self._writers:
            raise ValueError(f"schema id {schema_id}: a newer version? Known are {list(self._writers)}")
        return fastavro.schemaless_reader(io.BytesIO(message[5:]), self._writers[schema_id], self._reader)


# -- end


# -- sessions
class Sessions:
    """The newest revision of each session; in earnest, a table of yours with session_id as its key."""

    def __init__(self):
        self._revisions = {}

    def take(self, record):
        """Whether the record is news."""
        if record["revision"] <= self._revisions.get(record["session_id"], -1):
            return False
        self._revisions[record["session_id"]] = record["revision"]
        self._revisions.pop(record["supersedes"], None)
        return True


# -- end


# -- visitors
class Visitors:
    """The latest session of each visitor; a tombstone erases it."""

    def __init__(self):
        self._latest = {}

    def take(self, visitor_id, record):
        """Whether the record is news. `record` is None for a tombstone."""
        if record is None:
            return self._latest.pop(visitor_id, None) is not None
        age = (record["closed_at"], record["started_at"], record["revision"])
        if age <= self._latest.get(visitor_id, (-1, 0, 0)):
            return False
        self._latest[visitor_id] = age
        return True


# -- end


# -- users
class Users:
    """Each customer's record; a tombstone forgets it.

    The last in the log counts: a session that is withdrawn takes a record back in time.
    """

    def __init__(self):
        self._records = {}

    def take(self, user_id, record):
        """Whether the record is news. `record` is None for a tombstone."""
        if record is None:
            return self._records.pop(user_id, None) is not None
        self._records[user_id] = record
        return True


# -- end


def main(
    brokers,
    schemas="schemas/landed",
    intents="web.session-intents.v1",
    visitors="web.visitor-intents.v1",
    users="web.user-intents.v1",
    quiet_s="inf",
):
    decode_intent, of_sessions = Decoder(schemas, "session_intent"), Sessions()
    latest = {
        visitors: (Decoder(schemas, "visitor_intent"), Visitors(), "visitor", "erased"),
        users: (Decoder(schemas, "user_intent"), Users(), "user", "forgotten"),
    }
    names = {
        "visitor": ("visitor_id", "session_id", "closed_at", "embedding_space"),
        "user": ("user_id", "session_id", "is_final", "attribution", "sessions"),
    }
    # -- consumer
    consumer = Consumer(
        {
            "bootstrap.servers": brokers,
            "group.id": f"example-{uuid.uuid4()}",  # a view is read whole: a group of its own each time
            "isolation.level": "read_committed",
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
        }
    )
    # -- end
    consumer.subscribe([intents, visitors, users])
    heard = None
    while heard is None or time.monotonic() - heard < float(quiet_s):
        message = consumer.poll(0.2)
        if message is None:
            continue
        if message.error():
            raise KafkaException(message.error())
        heard = time.monotonic()
        key = message.key().decode()
        if message.topic() == intents:
            record = decode_intent(message.value())
            if of_sessions.take(record):
                tell("session", record, "session_id", "revision", "is_final", "supersedes", "top_intent")
            continue
        decode, table, what, gone = latest[message.topic()]
        record = decode(message.value()) if message.value() is not None else None
        if table.take(key, record):
            if record is None:
                print(json.dumps({gone: key}), flush=True)
            else:
                tell(what, record, *names[what])
    consumer.close()


def tell(what, record, *names):
    print(json.dumps({"of": what} | {name: record[name] for name in names}), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
