package runrecorder

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"
)

// madeFields is the event that is made, as JSON has it.
func madeFields(t *testing.T, runID, kind string, fields Fields) map[string]any {
	t.Helper()
	made := newEventMaker(64<<10).make(runID, kind, fields)
	if made.line == nil {
		t.Fatalf("no line: %s", made.problem)
	}
	return parsed(t, made.line)
}

func parsed(t *testing.T, line []byte) map[string]any {
	t.Helper()
	var event map[string]any
	if err := json.Unmarshal(line, &event); err != nil {
		t.Fatalf("%v: %s", err, line)
	}
	return event
}

func TestTheEnvelope(t *testing.T) {
	event := madeFields(t, "r1", "run_started", Fields{"council": "nightly"})
	if event["type"] != "run_started" || event["run_id"] != "r1" || event["worker_pid"] != float64(os.Getpid()) {
		t.Errorf("%v", event)
	}
	if !regexp.MustCompile(`^[0-9a-f]{12}-1$`).MatchString(event["id"].(string)) {
		t.Errorf("id %v", event["id"])
	}
	if !regexp.MustCompile(`^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$`).MatchString(event["at"].(string)) {
		t.Errorf("at %v", event["at"])
	}
	for _, kind := range []string{"run_queued", "run_heartbeat", "run_lost"} {
		if _, given := madeFields(t, "r1", kind, nil)["worker_pid"]; given {
			t.Errorf("%s has a worker_pid", kind)
		}
	}
}

func TestTheCallerMaySayIDTimeAndPid(t *testing.T) {
	at := time.Date(2026, 1, 2, 3, 4, 5, 6000, time.FixedZone("", 3600))
	event := madeFields(t, "r1", "run_started", Fields{"id": "mine", "at": at, "worker_pid": 7, "run_id": "other", "type": "other"})
	if event["id"] != "mine" || event["at"] != "2026-01-02T02:04:05.000006Z" || event["worker_pid"] != 7.0 || event["run_id"] != "r1" {
		t.Errorf("%v", event)
	}
	if _, given := madeFields(t, "r1", "run_started", Fields{"worker_pid": nil})["worker_pid"]; given {
		t.Error("null says that this process is not the worker")
	}
}

func TestFieldsAreAsTheDaemonTakesThem(t *testing.T) {
	started := func(name string, value any) any { return madeFields(t, "r", "run_started", Fields{name: value})[name] }
	failed := func(name string, value any) any { return madeFields(t, "r", "run_failed", Fields{name: value})[name] }
	step := func(name string, value any) any { return madeFields(t, "r", "step", Fields{name: value})[name] }
	for _, one := range []struct{ got, want any }{
		{started("council", strings.Repeat("é", 200)), strings.Repeat("é", 127)}, {started("council", ""), nil}, {started("council", 7), "7"},
		{started("council", errors.New("e")), "e"}, {started("council", raisesError{}), "[unreadable: runrecorder.raisesError]"},
		{started("job_id", 12), "12"}, {started("job_id", json.Number("13")), "13"}, {started("queue", strings.Repeat("q", 99)), strings.Repeat("q", 64)},
		{started("attempt", 2), 2.0}, {started("attempt", 0), nil}, {started("attempt", int64(1)<<40), nil}, {started("attempt", "x"), nil}, {started("attempt", math.NaN()), nil},
		{started("expires_in", 90*time.Second), 90.0}, {started("expires_in", 1500*time.Millisecond), 2.0}, {started("expires_in", time.Duration(0)), nil}, {started("expires_in", 1<<40), nil},
		{started("parent_attempt_run_id", nil), nil}, {started("parent_attempt_run_id", "p"), "p"}, {started("unknown", nil), nil},
		{failed("job_state", "retryable"), "retryable"}, {step("user", 42), 42.0},
		{step("progress", Fields{"done": 1, "total": nil, "unit": ""}), Fields{"done": 1}}, {step("progress", Fields{"total": 3}), nil},
		{step("progress", Fields{"done": math.NaN()}), nil}, {step("progress", Fields{"done": 1, "total": "many"}), nil}, {step("progress", 3), nil},
		{step("progress", struct {
			Done int `json:"done"`
		}{3}), Fields{"done": 3}},
		{step("usage", Usage{"tokens": 3, "nan": math.Inf(1)}), Fields{"tokens": 3}}, {step("usage", Fields{"a": "x", "b": nil}), nil}, {step("usage", map[string]int{"n": 2}), Fields{"n": 2}},
		{failed("errors", "text"), []any{"text"}}, {failed("errors", []any{1, nil, "x"}), []any{"1", "null", "x"}}, {failed("errors", nil), nil},
		{failed("errors", errors.New("e")), []any{Fields{"kind": "error", "message": "e"}}},
		{failed("errors", []error{&os.PathError{Op: "open", Path: "p", Err: os.ErrNotExist}}), []any{Fields{"kind": "fs.PathError", "message": "open p: file does not exist"}}},
		{failed("errors", map[string]any{"kind": "k"}), []any{Fields{"kind": "k"}}}, {failed("errors", []byte("raw")), []any{"raw"}},
		{step("payload", Fields{"a": 1}), Fields{"a": 1}}, {step("payload", "text"), Fields{"value": "text"}}, {step("payload", nil), nil}, {step("payload", []int(nil)), nil},
	} {
		got, _ := json.Marshal(one.got)
		want, _ := json.Marshal(one.want)
		if string(got) != string(want) {
			t.Errorf("got %s want %s", got, want)
		}
	}
	for _, name := range []string{"input", "result"} {
		kind := map[string]string{"input": "run_started", "result": "run_completed"}[name]
		if value, given := madeFields(t, "r", kind, Fields{name: nil})[name]; !given || value != nil {
			t.Errorf("a null %s stays", name)
		}
	}
}

func TestNames(t *testing.T) {
	for kind, want := range map[string]string{
		"step": "step", "Row Done!": "row_done_", "": "event_", "9lives": "event_9lives", "é": "event__", strings.Repeat("x", 99): strings.Repeat("x", 64),
	} {
		if got := sendableType(kind); got != want {
			t.Errorf("%q became %q", kind, got)
		}
	}
	long := sendableRunID(strings.Repeat("x", 300))
	if long != strings.Repeat("x", 200)+"~0d4e2ca9e9cbced7a7a5380eb29e1a37" {
		t.Errorf("%s", long)
	}
	if id := sendableRunID(strings.Repeat("é", 130)); len(id) != 233 || !strings.HasPrefix(id, strings.Repeat("é", 100)+"~") {
		t.Errorf("%s", id)
	}
	if made := newEventMaker(1<<20).make("", "step", nil); made.line != nil || made.problem == "" {
		t.Error("an event needs a run_id")
	}
	first, second := NewRunID(), NewRunID()
	if !regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`).MatchString(first) || first == second {
		t.Errorf("%s %s", first, second)
	}
}

func TestWhatIsTooLargeIsReduced(t *testing.T) {
	huge := strings.Repeat("x", 2<<20)
	maker := newEventMaker(1 << 20)
	errs := []any{}
	for i := 0; i < 20; i++ {
		errs = append(errs, Fields{"kind": fmt.Sprint("k", i), "message": huge, "stacktrace": huge})
	}
	for _, one := range []struct {
		kind   string
		fields Fields
		want   string // the names of what is left
	}{
		{"run_started", Fields{"council": "c", "input": huge, "attempt": 2, "job_id": 3, "extra": 1}, "attempt council job_id"},
		{"run_completed", Fields{"result": huge, "job_state": "completed", "usage": Usage{"n": 1}}, "job_state usage"},
		{"run_failed", Fields{"errors": errs}, "errors"},
		{"run_started", Fields{"input": huge, "oban_job_id": 4, "job_id": 3}, "job_id"},
		{"run_started", Fields{"input": huge, "oban_job_id": 4}, "oban_job_id"},
		{"run_lost", Fields{"message": huge}, "message"},
		{"step", Fields{"payload": huge, "progress": Fields{"done": 1}}, "progress"},
		{"step", Fields{"usage": Fields{huge: 1}}, ""},
	} {
		made := maker.make("r1", one.kind, one.fields)
		if !made.reduced || len(made.line) > 30_000 {
			t.Fatalf("%s: reduced %v, %d bytes, %s", one.kind, made.reduced, len(made.line), made.problem)
		}
		event := parsed(t, made.line)
		if event["truncated"] != true {
			t.Errorf("%s does not say so", one.kind)
		}
		for _, name := range []string{"type", "run_id", "id", "at", "worker_pid", "truncated"} {
			delete(event, name)
		}
		left := strings.Join(sortedKeys(nil, event), " ")
		if left != one.want {
			t.Errorf("%s keeps %q, not %q", one.kind, left, one.want)
		}
	}
	failed := parsed(t, maker.make("r1", "run_failed", Fields{"errors": errs}).line)["errors"].([]any)
	if first := failed[0].(map[string]any); len(failed) != 10 || len(first) != 2 || len(first["message"].(string)) != 1000 {
		t.Errorf("%d errors, %.100v", len(failed), failed[0])
	}
}

func TestARefusedLineIsReducedWithItsIDAndTime(t *testing.T) {
	maker := newEventMaker(1 << 20)
	line := maker.make("r1", "run_failed", Fields{"errors": []any{"one", 2}, "result": 1, "odd": true, "worker_pid": 9}).line
	before, after := parsed(t, line), parsed(t, maker.reduceLine(line))
	for _, name := range []string{"type", "run_id", "id", "at", "worker_pid", "errors"} {
		if fmt.Sprint(before[name]) != fmt.Sprint(after[name]) {
			t.Errorf("%s: %v became %v", name, before[name], after[name])
		}
	}
	if len(after) != 7 || after["truncated"] != true {
		t.Errorf("%v", after)
	}
	for _, line := range []string{"{", "[]", `{"type":"x"}`, `{"run_id":7}`} {
		if reduced := maker.reduceLine([]byte(line)); reduced != nil {
			t.Errorf("%s became %s", line, reduced)
		}
	}
}
