package runrecorder

// What can be said of a run at its start.

import (
	"context"
	"time"
)

// RunOption is something to say of a run at its start.
type RunOption func(*runStart)

type runStart struct {
	fields  Fields
	outcome OutcomeFunc
}

// OutcomeFunc looks at what the work returned and ends the run itself, by Complete or Fail, or returns false for what
// Do does otherwise. Adapters of frameworks, whose errors may mean something else, need it.
type OutcomeFunc func(ctx context.Context, run *Run, err error) (ended bool)

// WithOutcome gives the meaning of errors to somebody else.
func WithOutcome(outcome OutcomeFunc) RunOption {
	return func(start *runStart) { start.outcome = outcome }
}

// WithRunID gives the run an id; without it a UUID of version 7 is made.
func WithRunID(id string) RunOption { return WithField("run_id", id) }

// WithInput records what the run works on.
func WithInput(input any) RunOption { return WithField("input", input) }

// WithAttempt numbers the attempt, from 1.
func WithAttempt(attempt int) RunOption { return WithField("attempt", attempt) }

// WithParent names the run of the attempt before, or of the first one.
func WithParent(runID string) RunOption { return WithField("parent_attempt_run_id", runID) }

// WithQueue names the daemon's queue that the job is in.
func WithQueue(queue string) RunOption { return WithField("queue", queue) }

// WithJobID is the job's id in that queue, a text or an integer.
func WithJobID(id any) RunOption { return WithField("job_id", id) }

// WithExpiry makes the run stuck when nothing was heard of it for so long; Heartbeat renews it.
func WithExpiry(after time.Duration) RunOption { return WithField("expires_in", after) }

// WithField sets any other field of run_started.
func WithField(name string, value any) RunOption {
	return func(start *runStart) { start.fields[name] = value }
}

// WithFields sets several.
func WithFields(given Fields) RunOption {
	return func(start *runStart) {
		for name, value := range given {
			start.fields[name] = value
		}
	}
}
