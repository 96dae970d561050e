package runrecorder

// An event as a line: the envelope, and each field as the daemon takes it ("How every client works" in
// clients/README.md). Pure but for the clock and the counter of ids; any goroutine.

import (
	"crypto/sha256"
	"encoding/hex"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Fields of an event, under the names of the protocol. A value may be anything.
type Fields map[string]any

const (
	maxRunIDBytes     = 255
	cutRunIDBytes     = 200
	runIDDigestDigits = 32
	maxTypeBytes      = 64
	maxEventIDBytes   = 64
	timeFormat        = "2006-01-02T15:04:05.000000Z"
	maxPooledBytes    = 256 << 10
)

// eventMaker makes the lines of one Recorder.
type eventMaker struct {
	instance string
	count    atomic.Uint64
	maxBytes int // of a line
	encoders sync.Pool
}

// madeEvent is a line with its newline.
type madeEvent struct {
	line      []byte
	lifecycle bool
	reduced   bool
	problem   string // why there is no line
}

func newEventMaker(maxBytes int) *eventMaker {
	maker := &eventMaker{instance: newInstanceID(), maxBytes: maxBytes}
	maker.encoders.New = func() any { return &encoder{} }
	return maker
}

// make never panics: what cannot be made into a line, nor into a reduced one, is a problem.
func (m *eventMaker) make(runID, kind string, fields Fields) (made madeEvent) {
	defer func() {
		if raised := recover(); raised != nil {
			made = madeEvent{problem: "it cannot be read: " + typeName(raised)}
		}
	}()
	if runID == "" {
		return madeEvent{problem: "it has no run_id"}
	}
	head := m.envelope(runID, kind, fields)
	made = madeEvent{lifecycle: isLifecycle(head.kind)}
	e := m.encoders.Get().(*encoder)
	e.reset(m.maxBytes)
	head.write(e, fields, false)
	if e.full {
		made.reduced = true
		e.reset(m.maxBytes)
		head.write(e, fields, true)
	}
	if e.full {
		made.problem = "it is too large without its values too"
	} else {
		made.line = append(append(make([]byte, 0, len(e.buf)+1), e.buf...), '\n')
	}
	if cap(e.buf) <= maxPooledBytes {
		m.encoders.Put(e)
	}
	return made
}

// envelope is what every event has.
type envelope struct {
	kind, runID, id, at string
}

func (m *eventMaker) envelope(runID, kind string, fields Fields) envelope {
	return envelope{sendableType(kind), sendableRunID(runID), m.eventID(fields), eventTime(fields)}
}

// write writes the whole event. Reduced: without what may be large and what the protocol does not know.
func (h envelope) write(e *encoder, fields Fields, reduced bool) {
	e.raw(`{"type":"`)
	e.raw(h.kind)
	e.raw(`","run_id":`)
	e.text(h.runID)
	e.raw(`,"id":`)
	e.text(h.id)
	e.raw(`,"at":`)
	e.text(h.at)
	writeWorkerPid(e, h.kind, fields)
	var few [16]string
	for _, key := range sortedKeys(few[:0], fields) {
		if e.full {
			return
		}
		if reduced && key == "oban_job_id" && fields["job_id"] != nil {
			continue // the daemon refuses two that differ
		}
		mark := len(e.buf)
		writeField(e, h.kind, key, fields[key], reduced)
		if reduced && e.full {
			e.goBack(mark)
		}
	}
	if reduced {
		e.raw(`,"truncated":true`)
	}
	e.raw("}")
}

// eventID is the caller's own, or the next of this Recorder.
func (m *eventMaker) eventID(fields Fields) string {
	if id, ok := fields["id"].(string); ok && id != "" && len(id) <= maxEventIDBytes {
		return id
	}
	return m.instance + "-" + strconv.FormatUint(m.count.Add(1), 10)
}

func eventTime(fields Fields) string {
	switch at := fields["at"].(type) {
	case time.Time:
		if utc := at.UTC(); utc.Year() >= 1 && utc.Year() <= 9999 {
			return utc.Format(timeFormat)
		}
	case string:
		if _, err := time.Parse(time.RFC3339Nano, at); err == nil {
			return at
		}
	}
	return time.Now().UTC().Format(timeFormat)
}

// writeWorkerPid names this process, or what fields say: null is for whoever sends for others.
func writeWorkerPid(e *encoder, kind string, fields Fields) {
	if given, ok := fields["worker_pid"]; ok {
		e.integerField("worker_pid", given, maxInt32)
		return
	}
	switch kind {
	case "run_queued", "run_heartbeat", "run_lost":
		return
	}
	e.raw(`,"worker_pid":`)
	e.integer(int64(os.Getpid()))
}

func isLifecycle(kind string) bool {
	switch kind {
	case "run_queued", "run_started", "run_completed", "run_failed", "run_lost":
		return true
	}
	return false
}

func sendableRunID(id string) string {
	if id = cleanText(id); len(id) <= maxRunIDBytes {
		return id
	}
	digest := sha256.Sum256([]byte(id))
	return cutBytes(id, cutRunIDBytes) + "~" + hex.EncodeToString(digest[:])[:runIDDigestDigits]
}

func sendableType(kind string) string {
	if isType(kind) {
		return kind
	}
	kind = strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || r == '_' || r == '.' {
			return r
		}
		return '_'
	}, strings.ToLower(cutBytes(kind, 4*maxTypeBytes)))
	if kind == "" || kind[0] < 'a' || kind[0] > 'z' {
		kind = "event_" + kind
	}
	return cutBytes(kind, maxTypeBytes)
}

func isType(kind string) bool {
	if kind == "" || len(kind) > maxTypeBytes || kind[0] < 'a' || kind[0] > 'z' {
		return false
	}
	for _, c := range []byte(kind) {
		if !(c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '_' || c == '.') {
			return false
		}
	}
	return true
}
