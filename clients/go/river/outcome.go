package river

// What River makes of a job by what its work returned, as river/internal/jobexecutor has it. Pure.

import (
	"context"
	"errors"

	"github.com/riverqueue/river/rivertype"

	"runrecorder"
)

// stateAfterError is the job's state after an error or a panic. River writes available instead of retryable where the
// next attempt is due within seconds.
func stateAfterError(job *rivertype.JobRow) rivertype.JobState {
	if job.Attempt >= job.MaxAttempts {
		return rivertype.JobStateDiscarded
	}
	return rivertype.JobStateRetryable
}

// outcome is a runrecorder.OutcomeFunc.
func outcome(ctx context.Context, run *runrecorder.Run, err error) (ended bool) {
	var snoozed *rivertype.JobSnoozeError
	switch {
	case err == nil:
		run.SetEndField("job_state", string(rivertype.JobStateCompleted))
		return false
	case errors.As(err, &snoozed):
		run.SetEndField("job_state", string(rivertype.JobStateScheduled))
		run.SetResult(map[string]any{"snoozed": snoozed.Duration.Seconds()})
		run.Complete()
		return true
	case isCancelled(ctx, err):
		run.SetEndField("job_state", string(rivertype.JobStateCancelled))
		run.Fail(runrecorder.Fields{"kind": "cancelled", "message": reason(ctx, err)})
		return true
	case errors.Is(err, context.Canceled) && ctx.Err() != nil:
		run.SetEndField("job_state", nil) // the client stops: what becomes of the job depends on River's version
	}
	return false
}

// isCancelled: by the work's JobCancel, or by somebody else while the work went on.
func isCancelled(ctx context.Context, err error) bool {
	var cancelled *rivertype.JobCancelError
	return errors.As(err, &cancelled) || errors.As(causeOf(ctx), &cancelled)
}

// reason is the error within the JobCancelError.
func reason(ctx context.Context, err error) string {
	var cancelled *rivertype.JobCancelError
	if !errors.As(err, &cancelled) {
		_ = errors.As(causeOf(ctx), &cancelled)
	}
	if inner := errors.Unwrap(cancelled); inner != nil {
		return inner.Error()
	}
	return err.Error()
}
