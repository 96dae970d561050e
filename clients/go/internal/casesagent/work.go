package main

// The commands that record work.

import (
	"context"
	"errors"
	"fmt"
	"sort"
	"time"

	"runrecorder"
)

// run does one run whose work ends as it is told, and says whether its outcome came out as it was.
func (a *agent) run(what command) any {
	fields, skipped := fieldsOf(what.Fields)
	if skipped != nil {
		return skipped
	}
	result, skipped := valueOf(what.Result)
	if skipped != nil {
		return skipped
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var outcome error
	work := func(ctx context.Context, r *runrecorder.Run) error {
		switch what.Outcome {
		case "raise":
			outcome = errors.New(what.Message)
		case "cancel":
			cancel()
			outcome = ctx.Err()
		default:
			if len(what.Result) > 0 {
				r.SetResult(result)
			}
		}
		return outcome
	}
	cameOut := a.recorder.Do(ctx, textOf(what.Council), work, runrecorder.WithFields(fields), runrecorder.WithRunID(textOf(what.RunID)))
	if cameOut != outcome {
		return answer{"came_out": fmt.Sprint(cameOut)}
	}
	return answer{"came_out": "as it was"}
}

func (a *agent) jobs(what command) {
	for i := what.First; i < what.First+what.Count; i++ {
		_ = a.recorder.Do(context.Background(), textOf(what.Council), func(_ context.Context, r *runrecorder.Run) error {
			r.Progress(1, 2, "steps")
			return nil
		}, runrecorder.WithRunID(fmt.Sprintf("job-%d", i)))
	}
}

// events times each call.
func (a *agent) events(what command) any {
	if what.Count < 1 {
		return answer{"skipped": "no events"}
	}
	times := make([]float64, what.Count)
	begin := time.Now()
	for i := range times {
		before := time.Now()
		a.recorder.Event(textOf(what.RunID), what.Type, runrecorder.Fields{
			"payload":  map[string]any{"n": i},
			"progress": map[string]any{"done": i, "total": what.Count},
		})
		times[i] = microseconds(time.Since(before))
	}
	total := microseconds(time.Since(begin))
	sort.Float64s(times)
	return answer{"total_us": total, "median_us": times[len(times)/2], "p99_us": times[len(times)*99/100],
		"max_us": times[len(times)-1]}
}

func microseconds(duration time.Duration) float64 {
	return float64(duration) / float64(time.Microsecond)
}
