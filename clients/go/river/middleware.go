// Package river records the jobs of River (github.com/riverqueue/river), each attempt as a run:
//
//	client, err := river.NewClient(driver, &river.Config{
//		Middleware: []rivertype.Middleware{recorderriver.NewMiddleware(recorderriver.Options{})},
//		…
//	})
//
// It is a module of its own, so that runrecorder needs none.
package river

import (
	"context"
	"encoding/json"

	"github.com/riverqueue/river/rivertype"

	"runrecorder"
)

// DefaultQueue is the name that the daemon's configuration has for River's jobs where nothing else is said.
const DefaultQueue = "river"

// Options of NewMiddleware. Functions that panic count as not given.
type Options struct {
	// Recorder: runrecorder.Default().
	Recorder *runrecorder.Recorder
	// Queue is the name of River's database in the daemon's configuration, [queues.NAME]: DefaultQueue. It is not
	// the queue of River's that a job is in.
	Queue string
	// Name is the run's council: the job's kind.
	Name func(*rivertype.JobRow) string
	// Input is what the run works on: the job's arguments. One that returns nil records null.
	Input func(*rivertype.JobRow) any
	// Ignore says which jobs are not recorded: none.
	Ignore func(*rivertype.JobRow) bool
}

// Middleware is a rivertype.WorkerMiddleware. Any goroutine.
type Middleware struct {
	options Options
}

var _ rivertype.WorkerMiddleware = (*Middleware)(nil)

// NewMiddleware makes one for river.Config.Middleware.
func NewMiddleware(options Options) *Middleware {
	if options.Queue == "" {
		options.Queue = DefaultQueue
	}
	return &Middleware{options: options}
}

// IsMiddleware is for River.
func (m *Middleware) IsMiddleware() bool { return true }

// Work records what doInner does. Its error and its panic go on as they were.
func (m *Middleware) Work(ctx context.Context, job *rivertype.JobRow, doInner func(context.Context) error) error {
	if job == nil || m.ignores(job) {
		return doInner(ctx)
	}
	work := func(ctx context.Context, run *runrecorder.Run) error {
		run.SetEndField("job_state", string(stateAfterError(job))) // also after a panic
		return doInner(ctx)
	}
	return m.recorder().Do(ctx, m.nameOf(job), work, m.start(job)...)
}

func (m *Middleware) recorder() *runrecorder.Recorder {
	if m.options.Recorder != nil {
		return m.options.Recorder
	}
	return runrecorder.Default()
}

func (m *Middleware) start(job *rivertype.JobRow) []runrecorder.RunOption {
	return []runrecorder.RunOption{
		runrecorder.WithRunID(RunID(job)),
		runrecorder.WithParent(parentID(job)),
		runrecorder.WithAttempt(job.Attempt),
		runrecorder.WithQueue(m.options.Queue),
		runrecorder.WithJobID(job.ID),
		runrecorder.WithInput(m.inputOf(job)),
		runrecorder.WithOutcome(outcome),
	}
}

func (m *Middleware) ignores(job *rivertype.JobRow) (ignored bool) {
	defer func() { _ = recover() }()
	return m.options.Ignore != nil && m.options.Ignore(job)
}

func (m *Middleware) nameOf(job *rivertype.JobRow) (name string) {
	defer func() {
		if recover() != nil || name == "" {
			name = job.Kind
		}
	}()
	if m.options.Name != nil {
		name = m.options.Name(job)
	}
	return name
}

func (m *Middleware) inputOf(job *rivertype.JobRow) (input any) {
	defer func() {
		if recover() != nil {
			input = arguments(job)
		}
	}()
	if m.options.Input != nil {
		return m.options.Input(job)
	}
	return arguments(job)
}

func arguments(job *rivertype.JobRow) any {
	if len(job.EncodedArgs) == 0 {
		return nil
	}
	return json.RawMessage(job.EncodedArgs)
}
