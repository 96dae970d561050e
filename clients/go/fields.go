package runrecorder

// The fields of an event, each as the protocol has it. Pure.

import (
	"sort"
	"strconv"
	"time"
)

const (
	maxInt32          = 1<<31 - 1
	maxInt64          = 1<<63 - 1
	maxExpiresIn      = 31 * 24 * 3600 // seconds
	maxUnitBytes      = 64
	maxReducedUsage   = 4 << 10 // bytes of a usage that a reduced event keeps: a row has no more
	maxMessageOfError = 1000    // characters, in a reduced event
)

// The texts of the protocol and their limits in bytes.
var textLimits = map[string]int{
	"council": 255, "job_id": 255, "host": 255, "unit": 255, "user": 255,
	"queue": 64, "job_state": 64, "cwd": 1024, "command": 1024,
}

// The integers of the protocol and their largest values; the smallest is 1.
var integerLimits = map[string]int64{
	"attempt": maxInt32, "oban_job_id": maxInt64, "expires_in": maxExpiresIn,
}

func sortedKeys(keys []string, fields Fields) []string {
	for key := range fields {
		keys = append(keys, key)
	}
	if len(keys) > fewMembers {
		sort.Strings(keys)
		return keys
	}
	for i := 1; i < len(keys); i++ {
		for j := i; j > 0 && keys[j] < keys[j-1]; j-- {
			keys[j], keys[j-1] = keys[j-1], keys[j]
		}
	}
	return keys
}

// writeField writes one field with the comma before it, or nothing where it is null or not to be sent.
func writeField(e *encoder, kind, key string, value any, reduced bool) {
	switch key {
	case "type", "run_id", "id", "at", "worker_pid": // the envelope has them
		return
	case "usage":
		e.usageField(value, reduced)
		return
	case "progress":
		e.progressField(value)
		return
	}
	limit, isText := textLimits[key]
	max, isInteger := integerLimits[key]
	switch {
	case !isOfKind(kind, key):
		if !reduced {
			e.field(key, value)
		}
	case isText:
		e.textField(key, value, limit)
	case isInteger:
		e.integerField(key, value, max)
	case key == "parent_attempt_run_id":
		e.parentField(value)
	case key == "message":
		e.messageField(value, reduced)
	case key == "errors":
		e.errorsField(value, reduced)
	case reduced: // input, result and payload
	case key == "payload":
		e.payloadField(value)
	default:
		e.jsonField(key, value)
	}
}

// isOfKind says whether the protocol knows that field in events of that type; others are kept as they are.
func isOfKind(kind, key string) bool {
	begins := kind == "run_queued" || kind == "run_started"
	ends := kind == "run_completed" || kind == "run_failed"
	switch key {
	case "council", "input", "attempt", "parent_attempt_run_id", "queue", "job_id", "oban_job_id", "host", "unit",
		"user", "cwd", "command":
		return begins
	case "expires_in":
		return kind == "run_started" || kind == "run_heartbeat"
	case "job_state", "result":
		return ends
	case "message":
		return kind == "run_lost"
	case "errors":
		return kind == "run_failed"
	case "payload":
		return !begins && !ends && kind != "run_lost" && kind != "run_heartbeat"
	}
	return false
}

// open begins a field; the caller may go back to the mark that it returns.
func (e *encoder) openField(key string) (mark int) {
	mark = len(e.buf)
	e.raw(",")
	e.text(key)
	e.raw(":")
	return mark
}

// jsonField writes any value, null too.
func (e *encoder) jsonField(key string, value any) {
	e.openField(key)
	e.value(value)
}

// field writes any value but null.
func (e *encoder) field(key string, value any) {
	mark := e.openField(key)
	begin := len(e.buf)
	if e.value(value); !e.full && string(e.buf[begin:]) == "null" {
		e.buf = e.buf[:mark]
	}
}

func (e *encoder) textField(key string, value any, limit int) {
	if text := cutBytes(textOf(value, limit), limit); text != "" {
		e.openField(key)
		e.text(text)
	}
}

func (e *encoder) integerField(key string, value any, max int64) {
	if duration, ok := value.(time.Duration); ok {
		value = int64((duration + time.Second - 1) / time.Second)
	}
	mark := e.openField(key)
	begin := len(e.buf)
	e.value(value)
	if e.full {
		return
	}
	if number, err := strconv.ParseInt(string(e.buf[begin:]), 10, 64); err != nil || number < 1 || number > max {
		e.buf = e.buf[:mark]
	}
}

func (e *encoder) parentField(value any) {
	if id := textOf(value, maxObjectText); id != "" {
		e.openField("parent_attempt_run_id")
		e.text(sendableRunID(id))
	}
}

func (e *encoder) messageField(value any, reduced bool) {
	if value == nil {
		return
	}
	text := textOf(value, maxObjectText)
	if reduced {
		text = cutCharacters(text, maxMessageOfError)
	}
	e.openField("message")
	e.text(text)
}

// payloadField writes an object; another value becomes the object's member "value".
func (e *encoder) payloadField(value any) {
	mark := e.openField("payload")
	begin := len(e.buf)
	e.value(value)
	if e.full || e.buf[begin] == '{' {
		return
	}
	if string(e.buf[begin:]) == "null" {
		e.buf = e.buf[:mark]
		return
	}
	wrapped := string(e.buf[begin:])
	e.buf = e.buf[:begin]
	e.raw(`{"value":`)
	e.raw(wrapped)
	e.raw("}")
}

// usageField writes those members that are finite numbers.
func (e *encoder) usageField(value any, reduced bool) {
	mark := e.openField("usage")
	begin := len(e.buf)
	e.raw("{")
	members, _ := objectOf(value, e.limit)
	var few [16]string
	for _, key := range sortedKeys(few[:0], members) {
		e.numberMember(begin, cleanText(key), members[key])
	}
	e.raw("}")
	if !e.full && (len(e.buf) == begin+2 || reduced && len(e.buf)-begin > maxReducedUsage) {
		e.buf = e.buf[:mark]
	}
}

// progressField writes done, total and unit, where done is a finite number, and total too where it is given.
func (e *encoder) progressField(value any) {
	members, _ := objectOf(value, e.limit)
	mark := e.openField("progress")
	begin := len(e.buf)
	e.raw("{")
	valid := e.numberMember(begin, "done", members["done"])
	if total := members["total"]; valid && total != nil {
		valid = e.numberMember(begin, "total", total)
	}
	if unit := cutBytes(textOf(members["unit"], maxUnitBytes), maxUnitBytes); valid && unit != "" {
		e.raw(`,"unit":`)
		e.text(unit)
	}
	e.raw("}")
	if !valid && !e.full {
		e.buf = e.buf[:mark]
	}
}

// numberMember writes a member of the object that begins there; false, and nothing written: it is no finite number.
func (e *encoder) numberMember(object int, key string, value any) bool {
	mark := len(e.buf)
	if mark > object+1 {
		e.raw(",")
	}
	e.text(key)
	e.raw(":")
	begin := len(e.buf)
	e.value(value)
	if e.full {
		return false
	}
	if c := e.buf[begin]; c == '-' || (c >= '0' && c <= '9') {
		return true
	}
	e.buf = e.buf[:mark]
	return false
}
