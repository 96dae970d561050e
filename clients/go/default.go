package runrecorder

// The Recorder of programs that need one only: made at the first use, with the zero Options.

import (
	"context"
	"sync"
)

var (
	defaultMu       sync.Mutex
	defaultRecorder *Recorder
)

// Default is the Recorder that the functions of this package use.
func Default() *Recorder {
	defaultMu.Lock()
	defer defaultMu.Unlock()
	if defaultRecorder == nil {
		defaultRecorder = New(Options{})
	}
	return defaultRecorder
}

// SetDefault puts another in its place, before the first use. It does not close the one before.
func SetDefault(r *Recorder) {
	defaultMu.Lock()
	defer defaultMu.Unlock()
	defaultRecorder = r
}

// Do is Recorder.Do of the default.
func Do(ctx context.Context, name string, work func(context.Context, *Run) error, options ...RunOption) error {
	return Default().Do(ctx, name, work, options...)
}

// Event is Recorder.Event of the default.
func Event(runID, kind string, fields Fields) { Default().Event(runID, kind, fields) }

// Flush is Recorder.Flush of the default.
func Flush(ctx context.Context) error { return Default().Flush(ctx) }

// Close is Recorder.Close of the default. Call it at the end of main.
func Close(ctx context.Context) error { return Default().Close(ctx) }

// Stats is Recorder.Stats of the default.
func Stats() Counts { return Default().Stats() }
