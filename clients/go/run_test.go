package runrecorder

import (
	"context"
	"errors"
	"fmt"
	"os"
	"reflect"
	"runtime"
	"strings"
	"testing"
	"time"
)

// recorded does work as a run and returns the events that the daemon got, the error that came out, and what was raised.
func recorded(t *testing.T, ctx context.Context, work func(context.Context, *Run) error, options ...RunOption) (events []map[string]any, err error, raised any) {
	t.Helper()
	r, _ := testRecorder(t, Options{})
	daemon := newFakeDaemon(t, r.options.Socket, acknowledge)
	done := make(chan struct{})
	go func() { // which work may end
		defer close(done)
		defer func() { raised = recover() }()
		err = r.Do(ctx, "nightly", work, options...)
	}()
	<-done
	flush(t, r)
	daemon.mu.Lock()
	defer daemon.mu.Unlock()
	return daemon.received, err, raised
}

// endOf is the type of the last event and its first error.
func endOf(events []map[string]any) (string, map[string]any) {
	last := events[len(events)-1]
	list, _ := last["errors"].([]any)
	if len(list) == 0 {
		return last["type"].(string), nil
	}
	return last["type"].(string), list[0].(map[string]any)
}

func TestWorkThatReturns(t *testing.T) {
	events, err, _ := recorded(t, context.Background(), func(ctx context.Context, r *Run) error {
		if FromContext(ctx) != r {
			t.Error("the context knows the run")
		}
		r.Progress(1, 3, "pages")
		r.Usage(Usage{"input_tokens": 1200})
		r.Event("page_read", map[string]any{"page": 1})
		r.Heartbeat()
		r.SetResult([]int{1, 2})
		return nil
	}, WithRunID("r1"), WithInput(Fields{"rows": 3}), WithAttempt(2), WithParent("r0"), WithQueue("q"), WithJobID(7), WithExpiry(time.Minute), WithField("host", "h"), nil)
	if err != nil || len(events) != 6 {
		t.Fatalf("%v %v", err, events)
	}
	wanted := []Fields{
		{"type": "run_started", "council": "nightly", "input": map[string]any{"rows": 3.0}, "attempt": 2.0, "parent_attempt_run_id": "r0",
			"queue": "q", "job_id": "7", "expires_in": 60.0, "host": "h"},
		{"type": "progress", "progress": map[string]any{"done": 1.0, "total": 3.0, "unit": "pages"}},
		{"type": "usage", "usage": map[string]any{"input_tokens": 1200.0}},
		{"type": "page_read", "payload": map[string]any{"page": 1.0}},
		{"type": "run_heartbeat"},
		{"type": "run_completed", "result": []any{1.0, 2.0}},
	}
	for i, event := range events {
		if event["run_id"] != "r1" {
			t.Errorf("%v", event)
		}
		for _, name := range []string{"run_id", "id", "at", "worker_pid"} {
			delete(event, name)
		}
		if !reflect.DeepEqual(event, map[string]any(wanted[i])) {
			t.Errorf("got %v want %v", event, wanted[i])
		}
	}
}

func TestWorkThatFails(t *testing.T) {
	cancelled, cancel := context.WithCancel(context.Background())
	cancel()
	late, cancelLate := context.WithTimeout(context.Background(), -1)
	defer cancelLate()
	_, missing := os.Open("/nowhere/at/all")
	for _, one := range []struct {
		ctx  context.Context
		err  error
		kind string
	}{
		{nil, errors.New("e"), "error"},
		{context.Background(), fmt.Errorf("outer: %w", missing), "fs.PathError"},
		{context.Background(), raisesError{}, "runrecorder.raisesError"},
		{cancelled, context.Canceled, "cancelled"},
		{cancelled, fmt.Errorf("stopped: %w", context.Canceled), "cancelled"},
		{cancelled, errors.New("e"), "error"},
		{context.Background(), context.Canceled, "error"},
		{late, late.Err(), "timeout"},
		{context.Background(), fmt.Errorf("inner: %w", context.DeadlineExceeded), "timeout"},
	} {
		events, err, _ := recorded(t, one.ctx, func(context.Context, *Run) error { return one.err })
		kind, first := endOf(events)
		if err != one.err || kind != "run_failed" || first["kind"] != one.kind {
			t.Errorf("%T came out as %T; %s %v, not %s", one.err, err, kind, first, one.kind)
		}
	}
}

func TestOfSeveralEndsTheFirstCounts(t *testing.T) {
	ends := func(work func(context.Context, *Run) error) string {
		events, _, _ := recorded(t, context.Background(), work)
		kind, _ := endOf(events)
		return fmt.Sprintf("%d, %s", len(events), kind)
	}
	failsAndReturns := func(_ context.Context, run *Run) error { run.Fail(errors.New("no")); return nil }
	completesAndFails := func(_ context.Context, run *Run) error { run.Complete(); return errors.New("late") }
	if got := ends(failsAndReturns); got != "2, run_failed" {
		t.Error(got)
	}
	if got := ends(completesAndFails); got != "2, run_completed" {
		t.Error(got)
	}
}

func panicsDeepInside() { panic(errors.New("deep inside")) }

func TestWorkThatPanics(t *testing.T) {
	for _, value := range []any{"a text", errors.New("an error"), 42, raisesError{}, struct{ A int }{1}} {
		events, _, raised := recorded(t, context.Background(), func(context.Context, *Run) error { panic(value) })
		kind, first := endOf(events)
		if raised != value || kind != "run_failed" || first["kind"] != "panic" || first["message"] == "" {
			t.Errorf("%v: raised %v, %s %v", value, raised, kind, first)
		}
	}
	events, _, _ := recorded(t, context.Background(), func(context.Context, *Run) error { panicsDeepInside(); return nil })
	_, first := endOf(events)
	stack := first["stacktrace"].(string)
	if !strings.HasPrefix(stack, "runrecorder.panicsDeepInside") || len(stack) > maxStackBytes {
		t.Errorf("%s", stack)
	}
}

func TestWorkThatPanicsWithNil(t *testing.T) {
	r, _ := testRecorder(t, Options{})
	returned := false
	func() {
		defer func() { _ = recover() }()
		_ = r.Do(context.Background(), "nil", func(context.Context, *Run) error { panic(nil) })
		returned = true
	}()
	if returned || r.Stats().Emitted != 2 {
		t.Errorf("the panic went lost: %+v", r.Stats())
	}
}

func TestWorkThatEndsItsGoroutine(t *testing.T) {
	events, err, raised := recorded(t, context.Background(), func(context.Context, *Run) error { runtime.Goexit(); return nil })
	if kind, first := endOf(events); kind != "run_failed" || first["kind"] != "goexit" || err != nil || raised != nil {
		t.Errorf("%s %v %v %v", kind, first, err, raised)
	}
}

func TestAnOutcomeOfSomebodyElse(t *testing.T) {
	snooze := errors.New("snooze")
	outcome := func(_ context.Context, run *Run, err error) bool {
		if err == snooze {
			run.SetResult(Fields{"snoozed": 60})
			run.SetEndField("job_state", "scheduled")
			run.Complete()
		}
		return err == snooze
	}
	events, err, _ := recorded(t, context.Background(), func(context.Context, *Run) error { return snooze }, WithOutcome(outcome))
	if kind, _ := endOf(events); kind != "run_completed" || events[1]["job_state"] != "scheduled" || err != snooze || len(events) != 2 {
		t.Errorf("%v %v", events, err)
	}
	raising := func(context.Context, *Run, error) bool { panic("no") }
	events, _, raised := recorded(t, context.Background(), func(context.Context, *Run) error { return nil }, WithOutcome(raising))
	if kind, _ := endOf(events); kind != "run_completed" || raised != nil {
		t.Errorf("%v %v", events, raised)
	}
}

func TestNothingIsRecordedWhereItIsDisabled(t *testing.T) {
	state := newState(t)
	t.Setenv("RUN_RECORDER_DISABLED", "1")
	for _, r := range []*Recorder{New(Options{Socket: state + "/events.sock"}), nil} {
		err := r.Do(context.Background(), "off", func(ctx context.Context, run *Run) error {
			run.Progress(1, 2, "")
			run.Usage(nil)
			run.Event("e", 1)
			run.Heartbeat()
			run.SetResult(1)
			run.SetEndField("a", 1)
			run.Complete()
			run.Fail("x")
			run.Finish(ctx, nil)
			if FromContext(ctx) != nil || run.ID() != "" {
				t.Error("there is no run")
			}
			return context.Canceled
		})
		r.Event("r1", "step", nil)
		if err != context.Canceled || r.Flush(nil) != nil || r.Close(nil) != nil || r.Stats() != (Counts{}) {
			t.Errorf("%v %+v", err, r.Stats())
		}
	}
	if len(leftIn(state)) != 0 {
		t.Error("a file is left")
	}
}

func TestAfterClose(t *testing.T) {
	r, _ := testRecorder(t, Options{})
	if err := r.Close(context.Background()); err != nil {
		t.Error(err)
	}
	if err := r.Do(context.Background(), "late", func(context.Context, *Run) error { return nil }); err != nil {
		t.Error(err)
	}
	if got := r.Stats(); got != (Counts{Emitted: 2, Dropped: 2}) || r.Close(context.Background()) != nil || r.Flush(context.Background()) != nil {
		t.Errorf("%+v", got)
	}
}

func TestTheDefaultRecorder(t *testing.T) {
	r, _ := testRecorder(t, Options{})
	SetDefault(r)
	defer SetDefault(nil)
	newFakeDaemon(t, r.options.Socket, acknowledge)
	if err := Do(context.Background(), "default", func(context.Context, *Run) error { return nil }); err != nil {
		t.Error(err)
	}
	Event("r1", "step", nil)
	if err := Flush(context.Background()); err != nil {
		t.Error(err)
	}
	if err := Close(context.Background()); err != nil || Stats() != (Counts{Emitted: 3, Acknowledged: 3}) {
		t.Errorf("%v %+v", err, Stats())
	}
}

func TestTheSocketIsFound(t *testing.T) {
	folder := t.TempDir()
	t.Setenv("XDG_RUNTIME_DIR", folder)
	t.Setenv("RUN_RECORDER_SOCKET_PATH", "")
	if got := socketPath(""); got != "/run/run-recorder/events.sock" {
		t.Error(got)
	}
	_ = os.MkdirAll(folder+"/run-recorder", 0o700)
	_ = os.WriteFile(folder+"/run-recorder/events.sock", nil, 0o600)
	if got := socketPath(""); got != folder+"/run-recorder/events.sock" {
		t.Error(got)
	}
	t.Setenv("RUN_RECORDER_SOCKET_PATH", "/from/the/environment")
	if got := socketPath(""); got != "/from/the/environment" {
		t.Error(got)
	}
	if got := socketPath("/given"); got != "/given" {
		t.Error(got)
	}
}

// unending unwraps to itself.
type unending struct{}

func (e *unending) Error() string { return "unending" }
func (e *unending) Unwrap() error { return e }

func TestAnErrorWithoutEndIsRecorded(t *testing.T) {
	wanted := &unending{}
	events, err, _ := recorded(t, context.Background(), func(context.Context, *Run) error { return wanted })
	kind, first := endOf(events)
	if err != error(wanted) || kind != "run_failed" || first["message"] != "unending" {
		t.Errorf("%v came out, recorded as %s %v", err, kind, first)
	}
}
