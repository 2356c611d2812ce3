// Follows the intents of sessions, visitors and customers: one JSON line for everything new.
//
//   mvn dependency:copy-dependencies
//   java -cp 'target/dependency/*' Consume.java BROKERS [SCHEMAS [INTENTS_TOPIC VISITORS_TOPIC USERS_TOPIC [QUIET_S]]]
//
// SCHEMAS is a folder of .avsc files, all versions. With QUIET_S it ends after so many seconds without a record.

import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.GeneralSecurityException;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.UUID;
import org.apache.avro.Schema;
import org.apache.avro.SchemaNormalization;
import org.apache.avro.generic.GenericDatumReader;
import org.apache.avro.generic.GenericRecord;
import org.apache.avro.io.DecoderFactory;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;

public final class Consume {
    // -- decoding
    /** Wire format: a zero byte, the writer's schema id in 4 bytes, the Avro body. */
    static final class Decoder {
        private final Map<Integer, GenericDatumReader<GenericRecord>> readers = new HashMap<>();

        Decoder(Path folder, String name) throws IOException, GeneralSecurityException {
            List<Schema> versions = new ArrayList<>();
            for (int v = 1; Files.exists(folder.resolve(name + ".v" + v + ".avsc")); v++) {
                String text = Files.readString(folder.resolve(name + ".v" + v + ".avsc"));
                versions.add(new Schema.Parser().parse(text));
            }
            Schema newest = versions.get(versions.size() - 1);
            for (Schema writer : versions) {
                byte[] digest = SchemaNormalization.parsingFingerprint("SHA-256", writer);
                int id = ByteBuffer.wrap(digest).getInt() & 0x7fffffff;
                readers.put(id, new GenericDatumReader<>(writer, newest));
            }
        }

        GenericRecord decode(byte[] message) throws IOException {
            ByteBuffer prefix = ByteBuffer.wrap(message);
            byte magic = prefix.get();
            int id = prefix.getInt();
            if (magic != 0 || !readers.containsKey(id)) {
                throw new IOException("schema id " + id + ": a newer version? Known are " + readers.keySet());
            }
            var body = DecoderFactory.get().binaryDecoder(message, 5, message.length - 5, null);
            return readers.get(id).read(null, body);
        }
    }
    // -- end

    // -- sessions
    /** The newest revision of each session; in earnest, a table of yours with session_id as its key. */
    static final class Sessions {
        private final Map<String, Integer> revisions = new HashMap<>();

        boolean isNew(GenericRecord record) {
            String id = record.get("session_id").toString();
            int revision = (int) record.get("revision");
            if (revision <= revisions.getOrDefault(id, -1)) {
                return false;
            }
            revisions.put(id, revision);
            revisions.remove(String.valueOf(record.get("supersedes")));
            return true;
        }
    }
    // -- end

    // -- visitors
    /** The latest session of each visitor; a tombstone (null) erases it. */
    static final class Visitors {
        private record Age(long closedAt, long startedAt, int revision) {}

        private static final Comparator<Age> ORDER =
                Comparator.comparingLong(Age::closedAt).thenComparingLong(Age::startedAt).thenComparingInt(Age::revision);
        private final Map<String, Age> latest = new HashMap<>();

        boolean isNew(String visitorId, GenericRecord record) {
            if (record == null) {
                return latest.remove(visitorId) != null;
            }
            Age age = new Age((long) record.get("closed_at"), (long) record.get("started_at"), (int) record.get("revision"));
            Age known = latest.get(visitorId);
            if (known != null && ORDER.compare(age, known) <= 0) {
                return false;
            }
            latest.put(visitorId, age);
            return true;
        }
    }
    // -- end

    // -- users
    /**
     * Each customer's record; a tombstone (null) forgets it. The last in the log counts: a session that is
     * withdrawn takes a record back in time.
     */
    static final class Users {
        private final Map<String, GenericRecord> records = new HashMap<>();

        boolean isNew(String userId, GenericRecord record) {
            if (record == null) {
                return records.remove(userId) != null;
            }
            records.put(userId, record);
            return true;
        }
    }
    // -- end

    private static final ObjectMapper JSON = new ObjectMapper();

    public static void main(String[] args) throws Exception {
        Path schemas = Path.of(args.length > 1 ? args[1] : "schemas/landed");
        String intents = args.length > 4 ? args[2] : "web.session-intents.v1";
        String visitors = args.length > 4 ? args[3] : "web.visitor-intents.v1";
        String users = args.length > 4 ? args[4] : "web.user-intents.v1";
        double quietNanos = args.length > 5 ? 1e9 * Double.parseDouble(args[5]) : Double.POSITIVE_INFINITY;
        Decoder ofIntents = new Decoder(schemas, "session_intent");
        Decoder ofVisitors = new Decoder(schemas, "visitor_intent");
        Sessions knownSessions = new Sessions();
        Visitors knownVisitors = new Visitors();
        Decoder ofUsers = new Decoder(schemas, "user_intent");
        Users knownUsers = new Users();
        // -- consumer
        Properties settings = new Properties();
        settings.put("bootstrap.servers", args[0]);
        settings.put("group.id", "example-" + UUID.randomUUID()); // a view is read whole: a group of its own each time
        settings.put("isolation.level", "read_committed"); // Java's default is read_uncommitted
        settings.put("auto.offset.reset", "earliest");
        settings.put("enable.auto.commit", "false");
        // -- end
        var bytes = new ByteArrayDeserializer();
        try (var consumer = new KafkaConsumer<byte[], byte[]>(settings, bytes, bytes)) {
            consumer.subscribe(List.of(intents, visitors, users));
            long heard = 0;
            while (heard == 0 || System.nanoTime() - heard < quietNanos) {
                for (ConsumerRecord<byte[], byte[]> message : consumer.poll(Duration.ofMillis(200))) {
                    heard = System.nanoTime();
                    String key = new String(message.key(), StandardCharsets.UTF_8);
                    if (message.topic().equals(intents)) {
                        GenericRecord record = ofIntents.decode(message.value());
                        if (knownSessions.isNew(record)) {
                            tell("session", record, "session_id", "revision", "is_final", "supersedes", "top_intent");
                        }
                        continue;
                    }
                    if (message.topic().equals(users)) {
                        GenericRecord record = message.value() == null ? null : ofUsers.decode(message.value());
                        if (!knownUsers.isNew(key, record)) {
                            continue;
                        }
                        if (record == null) {
                            System.out.println(JSON.writeValueAsString(Map.of("forgotten", key)));
                        } else {
                            tell("user", record, "user_id", "session_id", "is_final", "attribution", "sessions");
                        }
                        continue;
                    }
                    GenericRecord record = message.value() == null ? null : ofVisitors.decode(message.value());
                    if (!knownVisitors.isNew(key, record)) {
                        continue;
                    }
                    if (record == null) {
                        System.out.println(JSON.writeValueAsString(Map.of("erased", key)));
                    } else {
                        tell("visitor", record, "visitor_id", "session_id", "closed_at", "embedding_space");
                    }
                }
            }
        }
    }

    private static void tell(String of, GenericRecord record, String... names) throws IOException {
        Map<String, Object> told = new LinkedHashMap<>(Map.of("of", of));
        for (String name : names) {
            Object value = record.get(name);
            told.put(name, value instanceof CharSequence ? value.toString() : value);
        }
        System.out.println(JSON.writeValueAsString(told));
    }
}
