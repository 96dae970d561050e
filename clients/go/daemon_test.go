package runrecorder

// Against the real daemon, where RUN_RECORDER_BIN names the folder with run-recorderd and run-recorder.

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

type realDaemon struct {
	t       *testing.T
	folder  string
	bin     string
	process *exec.Cmd
}

func newRealDaemon(t *testing.T) *realDaemon {
	t.Helper()
	bin := os.Getenv("RUN_RECORDER_BIN")
	if bin == "" {
		t.Skip("RUN_RECORDER_BIN does not name the folder with run-recorderd")
	}
	folder, err := os.MkdirTemp("", "rr-go-") // a short path, for the sockets
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("XDG_STATE_HOME", folder)
	daemon := &realDaemon{t: t, folder: folder, bin: bin}
	t.Cleanup(func() {
		daemon.kill()
		_ = os.RemoveAll(folder)
	})
	return daemon
}

func (d *realDaemon) socket() string { return filepath.Join(d.folder, "events.sock") }

func (d *realDaemon) start() {
	d.t.Helper()
	d.process = exec.Command(filepath.Join(d.bin, "run-recorderd"))
	d.process.Env = append(cleanEnvironment(), "RUNTIME_DIRECTORY="+d.folder, "STATE_DIRECTORY="+d.folder)
	if err := d.process.Start(); err != nil {
		d.t.Fatal(err)
	}
}

// cleanEnvironment is without what configures the daemon.
func cleanEnvironment() (left []string) {
	for _, variable := range os.Environ() {
		if !strings.HasPrefix(variable, "RUN_RECORDER_") {
			left = append(left, variable)
		}
	}
	return left
}

func (d *realDaemon) kill() {
	if d.process != nil {
		_ = d.process.Process.Kill()
		_ = d.process.Wait()
		d.process = nil
	}
}

// pause returns when every thread has stopped.
func (d *realDaemon) pause() {
	d.t.Helper()
	_ = d.process.Process.Signal(syscall.SIGSTOP)
	waitFor(d.t, "the daemon has stopped", func() bool {
		threads, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", d.process.Process.Pid))
		for _, thread := range threads {
			text, err := os.ReadFile(thread)
			if state := text[bytes.LastIndexByte(text, ')')+1:]; err == nil && !bytes.HasPrefix(state, []byte(" T")) {
				return false
			}
		}
		return len(threads) > 0
	})
}

// ask gives the objects that the tool prints.
func (d *realDaemon) ask(arguments ...string) (objects []map[string]any) {
	arguments = append([]string{"--control", filepath.Join(d.folder, "control.sock")}, append(arguments, "--json")...)
	text, _ := exec.Command(filepath.Join(d.bin, "run-recorder"), arguments...).Output()
	for _, line := range strings.Split(strings.TrimSpace(string(text)), "\n") {
		var object map[string]any
		if json.Unmarshal([]byte(line), &object) == nil {
			objects = append(objects, object)
		}
	}
	return objects
}

func (d *realDaemon) waitForStatus(runID, status string) map[string]any {
	d.t.Helper()
	var row map[string]any
	waitFor(d.t, runID+" is "+status, func() bool {
		rows := d.ask("show", runID)
		if len(rows) > 0 {
			row = rows[0]
			if inner, ok := row["run"].(map[string]any); ok {
				row = inner
			}
		}
		return row["status"] == status
	})
	return row
}

func TestRunsWithTheDaemon(t *testing.T) {
	daemon := newRealDaemon(t)
	r, log := testRecorder(t, Options{Socket: daemon.socket()})
	ctx, cancel := context.WithCancel(context.Background())
	run := func(id string, work func(context.Context, *Run) error) {
		_ = r.Do(ctx, "nightly", work, WithRunID(id), WithInput([]any{math.NaN(), "\x00\xff", id}))
	}
	run("returns", func(_ context.Context, r *Run) error {
		r.SetResult(Fields{"rows": 3})
		r.Progress(1, 2, "pages")
		return nil
	})
	run("fails", func(context.Context, *Run) error { return errors.New("no such table") })
	func() {
		defer func() { _ = recover() }()
		run("panics", func(context.Context, *Run) error { panic("at the disco") })
	}()
	run("is-too-large", func(_ context.Context, r *Run) error { r.SetResult(strings.Repeat("x", 2<<20)); return nil })
	run("is-cancelled", func(ctx context.Context, _ *Run) error { cancel(); return ctx.Err() })
	daemon.start() // it was away
	flush(t, r)
	for id, status := range map[string]string{"returns": "completed", "fails": "failed", "panics": "failed", "is-too-large": "completed", "is-cancelled": "cancelled"} {
		row := fmt.Sprint(daemon.waitForStatus(id, status))
		if part := map[string]string{"returns": "rows:3", "fails": "no such table", "panics": "at the disco"}[id]; !strings.Contains(row, part) {
			t.Errorf("%s: %s is not in %s", id, part, row)
		}
	}
	if got := r.Stats(); got != (Counts{Emitted: 11, Acknowledged: 11, Truncated: 1}) {
		t.Errorf("%+v", got)
	}
	waitFor(t, "both are said", func() bool { return log.count("is away") == 1 && log.count("is back") == 1 })
}

func TestADaemonThatIsKilledAndStartsAgain(t *testing.T) {
	daemon := newRealDaemon(t)
	daemon.start()
	r, _ := testRecorder(t, Options{Socket: daemon.socket()})
	const jobs = 300
	for i := 0; i < jobs; i++ {
		if i == jobs/3 || i == 2*jobs/3 {
			waitFor(t, "some are taken", func() bool { return r.Stats().Acknowledged > int64(i) })
			daemon.kill()
			daemon.start()
		}
		_ = r.Do(context.Background(), "load", func(context.Context, *Run) error { return nil }, WithRunID(fmt.Sprint("job-", i)))
	}
	flush(t, r)
	daemon.waitForStatus(fmt.Sprint("job-", jobs-1), "completed")
	if completed := daemon.ask("list", "--council", "load", "--status", "completed", "--limit", "1000"); len(completed) != jobs {
		t.Errorf("%d are completed", len(completed))
	}
}

func TestADaemonThatHangs(t *testing.T) {
	daemon := newRealDaemon(t)
	daemon.start()
	r, _ := testRecorder(t, Options{Socket: daemon.socket()})
	r.Event("r1", "run_started", nil)
	flush(t, r)
	daemon.pause()
	begin := time.Now()
	r.Event("r1", "run_completed", nil)
	_ = r.Close(context.Background())
	if cost := time.Since(begin); cost > patience/2 {
		t.Errorf("the end took %s", cost)
	}
	_ = daemon.process.Process.Signal(syscall.SIGCONT)
	if got := r.Stats(); got.Kept != 1 {
		t.Fatalf("%+v", got)
	}
	next, _ := testRecorder(t, Options{Socket: daemon.socket()})
	next.Event("r2", "run_completed", nil)
	flush(t, next)
	daemon.waitForStatus("r1", "completed")
	daemon.waitForStatus("r2", "completed")
}
