package river

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"net"
	"path/filepath"
	"reflect"
	"sync"
	"testing"
	"time"

	"github.com/riverqueue/river/rivertype"

	"runrecorder"
)

// daemon takes every line.
type daemon struct {
	mu     sync.Mutex
	events []map[string]any
}

func (d *daemon) serve(listener net.Listener) {
	for {
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		go func() {
			defer conn.Close()
			lines := bufio.NewScanner(conn)
			for line := 1; lines.Scan(); line++ {
				var event map[string]any
				_ = json.Unmarshal(lines.Bytes(), &event)
				d.mu.Lock()
				d.events = append(d.events, event)
				d.mu.Unlock()
				fmt.Fprintf(conn, "{\"acked\":%d}\n", line)
			}
		}()
	}
}

func job() *rivertype.JobRow {
	return &rivertype.JobRow{ID: 42, Attempt: 1, MaxAttempts: 3, AttemptedBy: []string{"client"}, Kind: "send_mail", Queue: "default",
		CreatedAt: time.UnixMicro(1_700_000_000_000_000), EncodedArgs: []byte(`{"to":"you"}`)}
}

// worked is what the daemon got of a job, what came out of Work, and what was raised.
func worked(t *testing.T, ctx context.Context, options Options, job *rivertype.JobRow, work func(context.Context) error) (events []map[string]any, err error, raised any) {
	t.Helper()
	folder := t.TempDir()
	t.Setenv("XDG_STATE_HOME", folder)
	socket := filepath.Join(folder, "events.sock")
	listener, failed := net.Listen("unix", socket)
	if failed != nil {
		t.Fatal(failed)
	}
	defer listener.Close()
	d := &daemon{}
	go d.serve(listener)
	options.Recorder = runrecorder.New(runrecorder.Options{Socket: socket, Logger: log.Default()})
	var middleware rivertype.Middleware = NewMiddleware(options)
	func() {
		defer func() { raised = recover() }()
		err = middleware.(rivertype.WorkerMiddleware).Work(ctx, job, work)
	}()
	limited, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := options.Recorder.Flush(limited); err != nil {
		t.Fatal(err)
	}
	_ = options.Recorder.Close(context.Background())
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.events, err, raised
}

func TestAJobIsARun(t *testing.T) {
	events, err, _ := worked(t, context.Background(), Options{}, job(), func(ctx context.Context) error {
		runrecorder.FromContext(ctx).SetResult(1)
		return nil
	})
	if err != nil || len(events) != 2 {
		t.Fatalf("%v %v", err, events)
	}
	start := events[0]
	for _, name := range []string{"id", "at", "worker_pid"} {
		if start[name] == nil {
			t.Errorf("no %s", name)
		}
		delete(start, name)
	}
	want := map[string]any{"type": "run_started", "run_id": RunID(job()), "council": "send_mail", "queue": "river", "job_id": "42", "attempt": 1.0,
		"input": map[string]any{"to": "you"}}
	if !reflect.DeepEqual(start, want) {
		t.Errorf("got %v want %v", start, want)
	}
	if end := events[1]; end["type"] != "run_completed" || end["job_state"] != "completed" || end["result"] != 1.0 {
		t.Errorf("%v", end)
	}
}

func TestOutcomes(t *testing.T) {
	stopped, stop := context.WithCancel(context.Background())
	stop()
	broken := errors.New("broken")
	for name, one := range map[string]struct {
		ctx     context.Context
		attempt int
		err     error
		kind    string // of the event and of its error
		state   any
	}{
		"an error with attempts left":         {nil, 1, broken, "run_failed error", "retryable"},
		"an error at the last attempt":        {nil, 3, broken, "run_failed error", "discarded"},
		"a snooze":                            {nil, 1, &rivertype.JobSnoozeError{Duration: time.Minute}, "run_completed ", "scheduled"},
		"a snooze at the last attempt":        {nil, 3, fmt.Errorf("later: %w", &rivertype.JobSnoozeError{}), "run_completed ", "scheduled"},
		"a cancel":                            {nil, 1, rivertype.JobCancel(broken), "run_failed cancelled", "cancelled"},
		"a cancel without a reason":           {nil, 1, rivertype.JobCancel(nil), "run_failed cancelled", "cancelled"},
		"a timeout":                           {nil, 1, fmt.Errorf("slow: %w", context.DeadlineExceeded), "run_failed timeout", "retryable"},
		"the client stops":                    {stopped, 1, context.Canceled, "run_failed cancelled", nil},
		"an error after the client's stop":    {stopped, 1, broken, "run_failed error", "retryable"},
		"context.Canceled of the work's own":  {nil, 1, context.Canceled, "run_failed error", "retryable"},
		"an unknown kind of job at the start": {nil, 3, &rivertype.UnknownJobKindError{Kind: "x"}, "run_failed rivertype.UnknownJobKindError", "discarded"},
	} {
		row := job()
		row.Attempt = one.attempt
		ctx := one.ctx
		if ctx == nil {
			ctx = context.Background()
		}
		events, err, _ := worked(t, ctx, Options{}, row, func(context.Context) error { return one.err })
		end := events[len(events)-1]
		if got := end["type"].(string) + " " + kindOf(end); err != one.err || got != one.kind || end["job_state"] != one.state || len(events) != 2 {
			t.Errorf("%s: %v, %s, %v", name, err, got, end)
		}
		if snoozed, isSnooze := one.err.(*rivertype.JobSnoozeError); isSnooze && !reflect.DeepEqual(end["result"], map[string]any{"snoozed": snoozed.Duration.Seconds()}) {
			t.Errorf("%s: %v", name, end["result"])
		}
	}
}

func kindOf(end map[string]any) string {
	list, _ := end["errors"].([]any)
	if len(list) == 0 {
		return ""
	}
	return fmt.Sprint(list[0].(map[string]any)["kind"])
}

func TestAPanicGoesOnAsItWas(t *testing.T) {
	events, _, raised := worked(t, context.Background(), Options{}, job(), func(context.Context) error { panic("oh") })
	end := events[1]
	if raised != "oh" || kindOf(end) != "panic" || end["job_state"] != "retryable" {
		t.Errorf("%v %v", raised, end)
	}
}

func TestOptionsAndWhatPanicsInThem(t *testing.T) {
	options := Options{Queue: "mailers", Name: func(*rivertype.JobRow) string { return "Mail" }, Input: func(*rivertype.JobRow) any { return nil }}
	events, _, _ := worked(t, context.Background(), options, job(), func(context.Context) error { return nil })
	if start := events[0]; start["queue"] != "mailers" || start["council"] != "Mail" || start["input"] != nil {
		t.Errorf("%v", start)
	}
	options = Options{Name: func(*rivertype.JobRow) string { panic("no") }, Input: func(*rivertype.JobRow) any { panic("no") }, Ignore: func(*rivertype.JobRow) bool { panic("no") }}
	events, err, raised := worked(t, context.Background(), options, job(), func(context.Context) error { return nil })
	if events[0]["council"] != "send_mail" || fmt.Sprint(events[0]["input"]) != "map[to:you]" || err != nil || raised != nil {
		t.Errorf("%v %v %v", events, err, raised)
	}
	options = Options{Ignore: func(*rivertype.JobRow) bool { return true }}
	if events, _, _ = worked(t, context.Background(), options, job(), func(context.Context) error { return nil }); len(events) != 0 {
		t.Errorf("%v", events)
	}
}

func TestRunIDs(t *testing.T) {
	row := job()
	first := RunID(row)
	if first == "" || parentID(row) != "" {
		t.Errorf("%q %q", first, parentID(row))
	}
	row.AttemptedBy = append(row.AttemptedBy, "client") // after a snooze: the attempt is the same
	second := RunID(row)
	if second == first || parentID(row) != first {
		t.Errorf("%q %q", second, parentID(row))
	}
	row.AttemptedBy = make([]string, maxCountedExecutions)
	if RunID(row) != "" || parentID(row) != first {
		t.Errorf("%q %q", RunID(row), parentID(row))
	}
	another := job()
	another.CreatedAt = another.CreatedAt.Add(time.Microsecond)
	if RunID(another) == first {
		t.Error("the job of another database has another run")
	}
	events, _, _ := worked(t, context.Background(), Options{}, row, func(context.Context) error { return nil })
	if id := events[0]["run_id"].(string); len(id) != 36 || events[0]["parent_attempt_run_id"] != first {
		t.Errorf("%v", events[0])
	}
}
