package runrecorder

import (
	"context"
	"errors"
	"fmt"
	"net"
	"reflect"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

func TestEventsAreSentInOrderUntilAcknowledged(t *testing.T) {
	r, _ := testRecorder(t, Options{})
	for i := 0; i < 5000; i++ {
		r.Event("r1", "step", Fields{"n": i})
	}
	daemon := newFakeDaemon(t, r.options.Socket, func(connection, line int, _ map[string]any) string {
		switch {
		case connection == 1 && line == 2000:
			return "end" // with some that nobody knows the fate of
		case line%100 == 0 || line > 2900:
			return fmt.Sprintf(`{"acked":%d}`, line)
		}
		return ""
	})
	flush(t, r)
	if counts := r.Stats(); counts.Acknowledged != 5000 || counts.Waiting != 0 {
		t.Errorf("%+v", counts)
	}
	ids := daemon.got("id")
	first, resent := ids[:2000], ids[2000:]
	if len(resent) != 3100 || !reflect.DeepEqual(first[1900:], resent[:100]) {
		t.Errorf("%d were sent again, from %s", len(resent), resent[0])
	}
	for i, id := range resent {
		if !strings.HasSuffix(id, fmt.Sprintf("-%d", 1901+i)) {
			t.Fatalf("%s is the %dth of the second connection", id, i+1)
		}
	}
}

func TestALineThatIsRefusedIsReducedAndTheSecondTimeGivenUp(t *testing.T) {
	r, log := testRecorder(t, Options{})
	newFakeDaemon(t, r.options.Socket, func(_, line int, event map[string]any) string {
		if event["run_id"] == "bad" || (event["run_id"] == "odd" && event["truncated"] == nil) {
			return refusal(line, "invalid_event")
		}
		return acknowledge(0, line, nil)
	})
	for _, id := range []string{"good", "odd", "bad", "good"} {
		r.Event(id, "run_completed", Fields{"result": id})
	}
	flush(t, r)
	if got := r.Stats(); got != (Counts{Emitted: 4, Acknowledged: 3, Refused: 1, Truncated: 2}) {
		t.Errorf("%+v", got)
	}
	waitFor(t, "the daemon's message", func() bool { return log.count("the test says so") == 1 })
}

func TestWhileTheSpoolIsFullLifecycleEventsGoFirst(t *testing.T) {
	r, log := testRecorder(t, Options{})
	var full atomic.Bool
	full.Store(true)
	daemon := newFakeDaemon(t, r.options.Socket, func(_, line int, event map[string]any) string {
		if full.Load() && event["type"] == "step" {
			return refusal(line, "spool_full")
		}
		return acknowledge(0, line, nil)
	})
	r.Event("r1", "run_started", nil)
	for i := 0; i < 50; i++ {
		r.Event("r1", "step", Fields{"n": i})
	}
	r.Event("r1", "run_completed", nil)
	waitFor(t, "the two lifecycle events", func() bool { return r.Stats().Acknowledged == 2 })
	before := daemon.count()
	r.Event("r2", "run_started", nil)
	waitFor(t, "one more", func() bool { return r.Stats().Acknowledged == 3 })
	if again := daemon.got("type")[before:]; strings.Count(strings.Join(again, " "), "step") > 3 {
		t.Errorf("one detail a round is enough: %v", again)
	}
	full.Store(false)
	flush(t, r)
	if got := r.Stats(); got != (Counts{Emitted: 53, Acknowledged: 53}) {
		t.Errorf("%+v", got)
	}
	waitFor(t, "both are said", func() bool { return log.count("has no room") == 1 && log.count("takes events again") == 1 })
}

func TestUnavailableLinesKeepTheirPlace(t *testing.T) {
	r, _ := testRecorder(t, Options{})
	var refused atomic.Int32
	daemon := newFakeDaemon(t, r.options.Socket, func(_, line int, event map[string]any) string {
		if event["n"] == 1.0 && refused.Add(1) == 1 {
			return refusal(line, "unavailable")
		}
		return acknowledge(0, line, nil)
	})
	for i := 0; i < 3; i++ {
		r.Event("r1", "step", Fields{"n": i})
	}
	flush(t, r)
	if got := strings.Join(daemon.got("n"), " "); !strings.HasSuffix(got, "1") && !strings.HasSuffix(got, "1 2") {
		t.Errorf("sent %s", got)
	}
	if got := r.Stats(); got.Acknowledged != 3 || got.Truncated != 0 {
		t.Errorf("%+v", got)
	}
}

func TestAUserWhoIsForbiddenIsToldOnce(t *testing.T) {
	r, log := testRecorder(t, Options{})
	daemon := newFakeDaemon(t, r.options.Socket, func(connection, line int, _ map[string]any) string {
		if connection < 3 {
			return `{"error":{"line":0,"code":"forbidden","message":"not you"}}`
		}
		return acknowledge(0, line, nil)
	})
	r.Event("r1", "step", nil)
	flush(t, r)
	waitFor(t, "both are said", func() bool { return log.count("forbidden: not you") == 1 && log.count("is back") == 1 })
	if daemon.count() != 3 {
		t.Errorf("%d lines", daemon.count())
	}
}

func TestADaemonThatDoesNotAnswerIsLeft(t *testing.T) {
	r, log := testRecorder(t, Options{})
	r.sender.patience = 50 * time.Millisecond
	newFakeDaemon(t, r.options.Socket, func(connection, line int, _ map[string]any) string {
		if connection == 1 {
			return ""
		}
		return acknowledge(0, line, nil)
	})
	r.Event("r1", "step", nil)
	flush(t, r)
	waitFor(t, "it is said", func() bool { return log.count("no answer") == 1 })
}

func TestAnswersThatAreNonsenseHarmNothing(t *testing.T) {
	r, _ := testRecorder(t, Options{})
	r.sender.patience = 50 * time.Millisecond
	nonsense := []string{"hello", "{}", `{"acked":-1}`, `{"error":{"line":99,"code":"invalid_json"}}` + "\n" + `{"acked":1}`,
		`{"acked":1e3}`, strings.Repeat("x", 100_000), `{"acked":999999}`}
	newFakeDaemon(t, r.options.Socket, func(connection, line int, _ map[string]any) string {
		if connection <= len(nonsense) {
			return nonsense[connection-1]
		}
		return acknowledge(0, line, nil)
	})
	for i := 0; i < len(nonsense); i++ {
		r.Event("r1", "step", nil)
		flush(t, r)
	}
	if got := r.Stats(); got.Acknowledged != int64(len(nonsense)) {
		t.Errorf("%+v", got)
	}
}

func TestNothingWaitsForADaemonThatHangs(t *testing.T) {
	r, _ := testRecorder(t, Options{})
	listener, err := net.Listen("unix", r.options.Socket) // accepts nothing
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	// The shared cases measure; this one shows that no call waits, on a busy machine too.
	const limit = 2 * time.Second
	best := time.Hour
	for round := 0; round < 20 && best > limit; round++ {
		begin := time.Now()
		for i := 0; i < 1000; i++ {
			r.Event("r1", "step", Fields{"payload": Fields{"n": i}})
		}
		if cost := time.Since(begin); cost < best {
			best = cost
		}
	}
	if best > limit {
		t.Errorf("a thousand events cost %s", best)
	}
}

func TestAFullBufferDropsTheOldestDetailsFirst(t *testing.T) {
	r, log := testRecorder(t, Options{BufferBytes: minBufferBytes})
	r.Event("r1", "run_started", nil)
	for i := 0; i < 2000; i++ {
		r.Event("r1", "step", Fields{"n": i})
	}
	r.Event("r1", "run_completed", nil)
	counts := r.Stats()
	if counts.Dropped == 0 || counts.Emitted != 2002 || counts.Waiting != 2002-counts.Dropped {
		t.Errorf("%+v", counts)
	}
	daemon := newFakeDaemon(t, r.options.Socket, acknowledge)
	flush(t, r)
	types, numbers := daemon.got("type"), daemon.got("n")
	if types[0] != "run_started" || types[len(types)-1] != "run_completed" || numbers[1] != fmt.Sprint(counts.Dropped) {
		t.Errorf("%s, then from %s, at last %s", types[0], numbers[1], types[len(types)-1])
	}
	waitFor(t, "both are said", func() bool {
		return log.count("the buffer is full") == 1 && log.count(fmt.Sprintf("%d events were dropped", counts.Dropped)) == 1
	})
}

func TestABufferFullOfLifecycleEventsDropsTheOldest(t *testing.T) {
	b := newBuffer(3 * (entryOverhead + 10))
	event := func(number uint64, lifecycle bool) *entry {
		return &entry{line: make([]byte, 10), number: number, lifecycle: lifecycle}
	}
	for i := uint64(1); i <= 5; i++ {
		b.push(event(i, true))
	}
	if dropped := b.push(event(6, false)); dropped != 1 || b.firstOwn().number != 3 || b.count != 3 {
		t.Errorf("a detail finds no room: %d dropped, %d is the oldest of %d", dropped, b.firstOwn().number, b.count)
	}
}

func TestManyGoroutines(t *testing.T) {
	r, _ := testRecorder(t, Options{})
	newFakeDaemon(t, r.options.Socket, acknowledge)
	var all sync.WaitGroup
	for i := 0; i < 8; i++ {
		all.Add(1)
		go func() {
			defer all.Done()
			for j := 0; j < 200; j++ {
				_ = r.Do(context.Background(), "many", func(context.Context, *Run) error { return nil })
				if counts := r.Stats(); counts.Emitted != counts.Acknowledged+counts.Waiting {
					t.Errorf("%+v", counts)
				}
			}
		}()
	}
	all.Wait()
	flush(t, r)
	if got := r.Stats(); got != (Counts{Emitted: 3200, Acknowledged: 3200}) {
		t.Errorf("%+v", got)
	}
}

type brokenLogger struct{}

func (brokenLogger) Printf(string, ...any) { panic("the log is broken") }

func TestABrokenLoggerHarmsNothing(t *testing.T) {
	r, _ := testRecorder(t, Options{Logger: brokenLogger{}})
	r.Event("r1", "step", nil)
	r.Event("", "step", nil)
	newFakeDaemon(t, r.options.Socket, acknowledge)
	flush(t, r)
}

func TestFlushSaysWhatIsLeft(t *testing.T) {
	r, _ := testRecorder(t, Options{})
	if err := r.Flush(context.Background()); err != nil {
		t.Errorf("nothing is left: %v", err)
	}
	r.Event("r1", "step", nil)
	gone, cancel := context.WithCancel(context.Background())
	cancel()
	if err := r.Flush(gone); !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), "1 events") {
		t.Errorf("%v", err)
	}
}
