package runrecorder_test

import (
	"context"
	"fmt"
	"os"

	"runrecorder"
)

func Example() {
	ctx := context.Background()
	defer runrecorder.Close(ctx)

	err := runrecorder.Do(ctx, "nightly", func(ctx context.Context, r *runrecorder.Run) error {
		pages := []string{"a", "b", "c"}
		for i := range pages {
			r.Progress(float64(i+1), float64(len(pages)), "pages")
		}
		r.SetResult(map[string]any{"pages": len(pages)})
		return nil
	}, runrecorder.WithInput(map[string]any{"day": "2026-12-01"}))
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
}

func ExampleRecorder_Event() {
	r := runrecorder.New(runrecorder.Options{Socket: "/run/run-recorder/events.sock"})
	defer r.Close(context.Background())

	// A job that another process is going to work on.
	r.Event("job-42", "run_queued", runrecorder.Fields{"council": "send_mail", "queue": "mailers", "job_id": 42})
}
