// Follows the intents of sessions, visitors and customers: one JSON line for everything new.
//
//	go run . BROKERS [SCHEMAS [INTENTS_TOPIC VISITORS_TOPIC USERS_TOPIC [QUIET_S]]]
//
// SCHEMAS is a folder of .avsc files, all versions. With QUIET_S it ends after so many seconds without a record.
package main

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/hamba/avro/v2"
	"github.com/twmb/franz-go/pkg/kgo"
)

// -- decoding
// decoder: a zero byte, the writer's schema id in 4 bytes, the Avro body.
type decoder struct{ writers map[uint32]avro.Schema }

func newDecoder(folder, name string) decoder {
	writers := map[uint32]avro.Schema{}
	for _, file := range must(filepath.Glob(filepath.Join(folder, name+".v*.avsc"))) {
		writer := must(avro.ParseBytesWithCache(must(os.ReadFile(file)), "", &avro.SchemaCache{}))
		digest := must(writer.FingerprintUsing(avro.SHA256))
		writers[binary.BigEndian.Uint32(digest)&0x7fffffff] = writer
	}
	return decoder{writers}
}

func (d decoder) decode(message []byte, record any) {
	id := binary.BigEndian.Uint32(message[1:])
	schema, known := d.writers[id]
	if message[0] != 0 || !known {
		panic(fmt.Sprintf("schema id %d: a newer version?", id))
	}
	// The fields of a struct are found by name, so the writer's schema is enough: what it lacks stays zero.
	check(avro.Unmarshal(schema, message[5:], record))
}

// -- end

// The fields that are read; there are more.
type session struct {
	SessionID  string  `avro:"session_id"`
	Revision   int     `avro:"revision"`
	IsFinal    bool    `avro:"is_final"`
	Supersedes *string `avro:"supersedes"`
	TopIntent  *string `avro:"top_intent"`
}

type visitor struct {
	VisitorID      string `avro:"visitor_id"`
	SessionID      string `avro:"session_id"`
	StartedAt      int64  `avro:"started_at"`
	ClosedAt       int64  `avro:"closed_at"`
	Revision       int    `avro:"revision"`
	EmbeddingSpace string `avro:"embedding_space"`
}

type user struct {
	UserID      string `avro:"user_id"`
	SessionID   string `avro:"session_id"`
	IsFinal     bool   `avro:"is_final"`
	Attribution string `avro:"attribution"`
	Sessions    int    `avro:"sessions"`
}

// -- sessions
// revisions: the newest of each session; in earnest, a table of yours with session_id as its key.
type revisions map[string]int

func (known revisions) isNew(s session) bool {
	if revision, found := known[s.SessionID]; found && s.Revision <= revision {
		return false
	}
	known[s.SessionID] = s.Revision
	if s.Supersedes != nil {
		delete(known, *s.Supersedes)
	}
	return true
}

// -- end

// -- visitors
// latest session of each visitor.
type latest map[string]visitor

func (known latest) isNew(v visitor) bool {
	old, found := known[v.VisitorID]
	if found && !old.isBefore(v) {
		return false
	}
	known[v.VisitorID] = v
	return true
}

// erase what a tombstone, a record without a value, is about.
func (known latest) erase(visitorID string) bool {
	_, found := known[visitorID]
	delete(known, visitorID)
	return found
}

func (v visitor) isBefore(other visitor) bool {
	if v.ClosedAt != other.ClosedAt {
		return v.ClosedAt < other.ClosedAt
	}
	if v.StartedAt != other.StartedAt {
		return v.StartedAt < other.StartedAt
	}
	return v.Revision < other.Revision
}

// -- end

// -- users
// customers: each one's record. The last in the log counts: a session that is withdrawn takes a record back in time.
type customers map[string]user

func (known customers) take(u user) { known[u.UserID] = u }

// forget a customer: of whom nothing is left there is a tombstone, a record without a value.
func (known customers) forget(userID string) bool {
	_, found := known[userID]
	delete(known, userID)
	return found
}

// -- end

func main() {
	args := append(os.Args[1:], []string{"", "schemas/landed", "web.session-intents.v1", "web.visitor-intents.v1", "web.user-intents.v1", "1e9"}[len(os.Args)-1:]...)
	intents, visitors, users := args[2], args[3], args[4]
	quiet := time.Duration(must(strconv.ParseFloat(args[5], 64)) * float64(time.Second))
	ofIntents, ofVisitors := newDecoder(args[1], "session_intent"), newDecoder(args[1], "visitor_intent")
	ofUsers := newDecoder(args[1], "user_intent")
	// -- consumer
	// Without a group: every partition, from its start.
	client := must(kgo.NewClient(
		kgo.SeedBrokers(strings.Split(args[0], ",")...),
		kgo.ConsumeTopics(intents, visitors, users),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()), // its default is uncommitted
	))
	// -- end
	defer client.Close()
	sessions, known, ofCustomers, heard := revisions{}, latest{}, customers{}, time.Time{}
	for heard.IsZero() || time.Since(heard) < quiet {
		ctx, cancel := context.WithTimeout(context.Background(), 200*time.Millisecond)
		fetches := client.PollFetches(ctx)
		cancel()
		fetches.EachRecord(func(message *kgo.Record) {
			heard = time.Now()
			key := string(message.Key)
			switch {
			case message.Topic == intents:
				var s session
				ofIntents.decode(message.Value, &s)
				if sessions.isNew(s) {
					tell(map[string]any{"of": "session", "session_id": s.SessionID, "revision": s.Revision,
						"is_final": s.IsFinal, "supersedes": s.Supersedes, "top_intent": s.TopIntent})
				}
			case message.Topic == users && message.Value == nil:
				if ofCustomers.forget(key) {
					tell(map[string]any{"forgotten": key})
				}
			case message.Topic == users:
				var u user
				ofUsers.decode(message.Value, &u)
				ofCustomers.take(u)
				tell(map[string]any{"of": "user", "user_id": u.UserID, "session_id": u.SessionID,
					"is_final": u.IsFinal, "attribution": u.Attribution, "sessions": u.Sessions})
			case message.Value == nil:
				if known.erase(key) {
					tell(map[string]any{"erased": key})
				}
			default:
				var v visitor
				ofVisitors.decode(message.Value, &v)
				if known.isNew(v) {
					tell(map[string]any{"of": "visitor", "visitor_id": v.VisitorID, "session_id": v.SessionID,
						"closed_at": v.ClosedAt, "embedding_space": v.EmbeddingSpace})
				}
			}
		})
	}
}

func tell(line map[string]any) { fmt.Println(string(must(json.Marshal(line)))) }

func must[T any](value T, err error) T {
	check(err)
	return value
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}
