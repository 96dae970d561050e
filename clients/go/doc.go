// Package runrecorder records the runs of background jobs with the run-recorder daemon.
//
//	func main() {
//		defer runrecorder.Close(context.Background())
//		err := runrecorder.Do(ctx, "nightly", func(ctx context.Context, r *runrecorder.Run) error {
//			return work(ctx)
//		})
//	}
//
// Do sends run_started before the work and run_completed or run_failed after it, by what the work returned. No call of
// this package panics, and none waits for the daemon, except Flush and Close, which are asked to. Events are made into
// lines of JSON by the caller, wait in memory, and are sent by a goroutine until the daemon has acknowledged them.
// Every function and method may be called from any goroutine.
//
// Go runs nothing at the end of a process by itself: what is not acknowledged when main returns, at os.Exit or at
// log.Fatal is lost unless Close was called before.
package runrecorder
