//go:build go1.20

package river

import (
	"context"
	"testing"

	"github.com/riverqueue/river/rivertype"
)

func TestAJobThatIsCancelledFromOutside(t *testing.T) {
	ctx, cancel := context.WithCancelCause(context.Background())
	cancel(rivertype.ErrJobCancelledRemotely)
	events, err, _ := worked(t, ctx, Options{}, job(), func(ctx context.Context) error { return ctx.Err() })
	if end := events[1]; kindOf(end) != "cancelled" || end["job_state"] != "cancelled" || err != context.Canceled {
		t.Errorf("%v %v", end, err)
	}
}
