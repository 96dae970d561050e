package runrecorder

// A run around work: its start, what is said meanwhile, and its end by the outcome. Any goroutine.

import (
	"context"
	"runtime/debug"
	"sync"
)

// Run is one attempt that is being recorded. A nil Run does nothing.
type Run struct {
	recorder *Recorder
	id       string
	outcome  OutcomeFunc

	mu     sync.Mutex
	result any
	given  bool   // a result
	ending Fields // further fields of the end
	ended  bool   // its end was sent: the first one counts
}

// Usage is what a run used, by name: the daemon adds it up.
type Usage map[string]float64

// Do records work as a run of that name: run_started before it, run_completed after it where it returned nil, else
// run_failed. What the work returned is returned; a panic goes on as it was.
//
// An error that is context.Canceled while ctx is done means that the run was cancelled; one that is
// context.DeadlineExceeded has the kind "timeout". A panic has the kind "panic" and its stack; runtime.Goexit, as
// testing.T's FailNow calls it, the kind "goexit".
func (r *Recorder) Do(ctx context.Context, name string, work func(context.Context, *Run) error, options ...RunOption) error {
	if r.isOff() {
		return work(ctx, nil)
	}
	run := r.Start(name, options...)
	err, returned := run.guard(withRun(ctx, run), work)
	if !returned { // recover does not tell panic(nil) of Go before 1.21 from Goexit, which does not come here
		panic(nil)
	}
	return err
}

// Start sends run_started and returns the run, for work that no function surrounds. Its end is said by Complete or
// Fail.
func (r *Recorder) Start(name string, options ...RunOption) *Run {
	if r.isOff() {
		return nil
	}
	start := runStart{fields: Fields{"council": name}}
	start.apply(options)
	id := runIDOf(start.fields)
	if id == "" {
		id = NewRunID()
	}
	r.Event(id, "run_started", start.fields)
	return &Run{recorder: r, id: id, outcome: start.outcome}
}

func (start *runStart) apply(options []RunOption) {
	defer func() { _ = recover() }()
	for _, option := range options {
		if option != nil {
			option(start)
		}
	}
}

func runIDOf(fields Fields) (id string) {
	defer func() { _ = recover() }()
	return textOf(fields["run_id"], maxRunIDBytes)
}

// guard calls the work and sends the end, however it ends.
func (run *Run) guard(ctx context.Context, work func(context.Context, *Run) error) (err error, returned bool) {
	defer func() {
		if returned {
			return
		}
		raised := recover()
		if raised == nil { // runtime.Goexit, which goes on
			run.end("run_failed", Fields{"errors": []any{goexitFields()}})
			return
		}
		run.end("run_failed", Fields{"errors": []any{panicFields(raised, debug.Stack())}})
		panic(raised)
	}()
	err = work(ctx, run)
	returned = true
	run.Finish(ctx, err)
	return err, returned
}

// Finish sends the end by what the work returned, as Do does.
func (run *Run) Finish(ctx context.Context, err error) {
	switch {
	case run == nil || run.endedByOutcome(ctx, err):
	case err == nil:
		run.Complete()
	default:
		run.Fail(outcomeFields(ctx, err))
	}
}

// endedByOutcome asks the one of WithOutcome; where that panics nothing has ended.
func (run *Run) endedByOutcome(ctx context.Context, err error) (ended bool) {
	defer func() {
		if recover() != nil {
			ended = false
		}
	}()
	return run.outcome != nil && run.outcome(ctx, run, err)
}

// Complete sends run_completed. Of several ends the first counts.
func (run *Run) Complete() { run.end("run_completed", nil) }

// Fail sends run_failed with those errors: an error, a text, fields, or several. Errors of the kind "cancelled" mean
// that the run was cancelled.
func (run *Run) Fail(errors ...any) { run.end("run_failed", Fields{"errors": errors}) }

func (run *Run) end(kind string, fields Fields) {
	if run == nil {
		return
	}
	if fields == nil {
		fields = Fields{}
	}
	run.mu.Lock()
	again := run.ended
	run.ended = true
	for name, value := range run.ending {
		fields[name] = value
	}
	if run.given {
		fields["result"] = run.result
	}
	run.mu.Unlock()
	if !again {
		run.recorder.Event(run.id, kind, fields)
	}
}

// ID is the run's id; empty where nothing is recorded.
func (run *Run) ID() string {
	if run == nil {
		return ""
	}
	return run.id
}

// SetResult sets what the end carries as result.
func (run *Run) SetResult(result any) {
	if run == nil {
		return
	}
	run.mu.Lock()
	defer run.mu.Unlock()
	run.result, run.given = result, true
}

// SetEndField sets another field of the end, as job_state.
func (run *Run) SetEndField(name string, value any) {
	if run == nil {
		return
	}
	run.mu.Lock()
	defer run.mu.Unlock()
	if run.ending == nil {
		run.ending = Fields{}
	}
	run.ending[name] = value
}

// Progress says how far the work is. A total of 0 and an empty unit are left out.
func (run *Run) Progress(done, total float64, unit string) {
	if run == nil {
		return
	}
	progress := Fields{"done": done, "unit": unit}
	if total != 0 {
		progress["total"] = total
	}
	run.recorder.Event(run.id, "progress", Fields{"progress": progress})
}

// Usage says what was used since the last time.
func (run *Run) Usage(used Usage) {
	if run != nil {
		run.recorder.Event(run.id, "usage", Fields{"usage": used})
	}
}

// Event sends an event of the caller's own type with any payload.
func (run *Run) Event(kind string, payload any) {
	if run != nil {
		run.recorder.Event(run.id, kind, Fields{"payload": payload})
	}
}

// Heartbeat says that the run is alive, for runs with an expiry.
func (run *Run) Heartbeat() {
	if run != nil {
		run.recorder.Event(run.id, "run_heartbeat", nil)
	}
}

type runKey struct{}

func withRun(ctx context.Context, run *Run) context.Context {
	if ctx == nil {
		return nil // as it was given
	}
	return context.WithValue(ctx, runKey{}, run)
}

// FromContext is the run that the work with that context belongs to; nil, which does nothing, where there is none.
func FromContext(ctx context.Context) *Run {
	if ctx == nil {
		return nil
	}
	run, _ := ctx.Value(runKey{}).(*Run)
	return run
}
