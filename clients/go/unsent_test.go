package runrecorder

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

func leftIn(state string) []string {
	files, _ := filepath.Glob(filepath.Join(state, "run-recorder", "unsent", "*"))
	return files
}

func TestWhatIsLeftGoesToAFileAndTheNextClientSendsIt(t *testing.T) {
	state := newState(t)
	socket := filepath.Join(state, "events.sock")
	r, log := testRecorder(t, Options{Socket: socket})
	for i := 0; i < 3; i++ {
		r.Event("r1", "step", Fields{"n": i})
	}
	if err := r.Close(context.Background()); err == nil || !strings.Contains(err.Error(), "3 events") {
		t.Errorf("%v", err)
	}
	if got := r.Stats(); got != (Counts{Emitted: 3, Kept: 3}) {
		t.Errorf("%+v", got)
	}
	files := leftIn(state)
	if len(files) != 1 || log.count(files[0]) != 1 {
		t.Fatalf("%v, %v", files, log.lines)
	}
	info, _ := os.Stat(files[0])
	if name := filepath.Base(files[0]); info.Mode().Perm() != 0o600 || !strings.HasPrefix(name, socketName(socket)+"@") {
		t.Errorf("%s %s", info.Mode(), name)
	}
	daemon := newFakeDaemon(t, socket, acknowledge)
	next, _ := testRecorder(t, Options{Socket: socket})
	next.Event("r2", "step", Fields{"n": 3})
	flush(t, next)
	if got := strings.Join(daemon.got("n"), " "); got != "0 1 2 3" {
		t.Errorf("sent %s", got)
	}
	waitFor(t, "the file is gone", func() bool { return len(leftIn(state)) == 0 })
	if got := next.Stats(); got != (Counts{Emitted: 4, Acknowledged: 4}) {
		t.Errorf("%+v", got)
	}
}

func TestWithoutHOMETheSystemIsAskedForTheHome(t *testing.T) {
	account, err := user.LookupId(strconv.Itoa(os.Geteuid()))
	if err != nil {
		t.Skip(err)
	}
	for _, relative := range []string{"", "state"} {
		t.Setenv("XDG_STATE_HOME", relative)
		t.Setenv("HOME", relative)
		if home := homeFolder(); home != account.HomeDir {
			t.Errorf("%q is not %q", home, account.HomeDir)
		}
	}
}

// leave writes a file as an earlier client left it.
func leave(t *testing.T, state, socket, unique string, lines []byte) string {
	t.Helper()
	folder := filepath.Join(state, "run-recorder", "unsent")
	if err := os.MkdirAll(folder, 0o700); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(folder, socketName(socket)+"@"+unique+".ndjson")
	if err := os.WriteFile(path, lines, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestALongFileIsSentInPartsOverSeveralConnections(t *testing.T) {
	state := newState(t)
	socket := filepath.Join(state, "events.sock")
	var lines bytes.Buffer
	for i := 0; i < 12_000; i++ {
		fmt.Fprintf(&lines, `{"type":"step","run_id":"r1","id":"i%d"}`+"\n", i)
	}
	leave(t, state, socket, "1-a", append(lines.Bytes(), "\n \n{\"type\":\"run_completed\",\"run_id\":\"r1\",\"id\":\"end\"}"...))
	daemon := newFakeDaemon(t, socket, func(connection, line int, event map[string]any) string {
		if connection < 4 && line == 3000 {
			return "end"
		}
		return acknowledge(0, line, nil)
	})
	r, _ := testRecorder(t, Options{Socket: socket})
	r.Event("r2", "step", Fields{"id": "mine"})
	flush(t, r)
	ids := daemon.got("id")
	if len(ids) < 12_002 || ids[len(ids)-1] != "mine" || ids[len(ids)-2] != "end" {
		t.Errorf("%d, at last %v", len(ids), ids[len(ids)-2:])
	}
	waitFor(t, "the file is gone", func() bool { return len(leftIn(state)) == 0 })
	if got := r.Stats(); got.Emitted != 12_002 || got.Acknowledged != 12_002 {
		t.Errorf("%+v", got)
	}
}

func TestOfAFileWhatIsRefusedIsReducedAndCounted(t *testing.T) {
	state := newState(t)
	socket := filepath.Join(state, "events.sock")
	leave(t, state, socket, "1-a", []byte("no JSON\n"+`{"type":"run_started","run_id":"r1","id":"i","input":1}`+"\n"))
	daemon := newFakeDaemon(t, socket, func(_, line int, event map[string]any) string {
		if event["malformed"] != nil || event["input"] != nil {
			return refusal(line, "invalid_json")
		}
		return acknowledge(0, line, nil)
	})
	r, log := testRecorder(t, Options{Socket: socket})
	r.Event("r2", "step", nil)
	flush(t, r)
	waitFor(t, "the file is gone", func() bool { return len(leftIn(state)) == 0 })
	if got := r.Stats(); got != (Counts{Emitted: 3, Acknowledged: 2, Refused: 1, Truncated: 1}) {
		t.Errorf("%+v", got)
	}
	if pids := daemon.got("worker_pid"); pids[len(pids)-2] != "<nil>" {
		t.Errorf("another process's events have its worker: %v", pids)
	}
	waitFor(t, "it is said", func() bool { return log.count("the test says so") == 1 })
}

func TestAFileThatIsNotSentWholeStays(t *testing.T) {
	state := newState(t)
	socket := filepath.Join(state, "events.sock")
	path := leave(t, state, socket, "1-a", []byte(strings.Repeat(`{"type":"step","run_id":"r1"}`+"\n", 10)))
	newFakeDaemon(t, socket, func(_, line int, _ map[string]any) string {
		if line > 4 {
			return ""
		}
		return acknowledge(0, line, nil)
	})
	r, _ := testRecorder(t, Options{Socket: socket})
	r.Event("r2", "run_started", nil)
	waitFor(t, "four are taken", func() bool { return r.Stats().Acknowledged == 4 })
	_ = r.Close(context.Background())
	if got := r.Stats(); got != (Counts{Emitted: 11, Acknowledged: 4, Kept: 7}) {
		t.Errorf("%+v", got)
	}
	if _, err := os.Stat(path); err != nil || len(leftIn(state)) != 2 {
		t.Errorf("%v %v", err, leftIn(state))
	}
}

func TestFilesOfOthersAreLeftAlone(t *testing.T) {
	state := newState(t)
	socket := filepath.Join(state, "events.sock")
	line := []byte(`{"type":"step","run_id":"other"}` + "\n")
	leave(t, state, socket+"2", "1-a", line)
	leave(t, state, socket, "UPPER", line)
	folder := filepath.Join(state, "run-recorder", "unsent")
	for _, name := range []string{".ndjson", ".refused.ndjson", "@1.new"} {
		_ = os.WriteFile(filepath.Join(folder, socketName(socket)+name), line, 0o600)
	}
	_ = os.Symlink(filepath.Join(folder, socketName(socket)+".ndjson"), filepath.Join(folder, socketName(socket)+"@2.ndjson"))
	before := len(leftIn(state))
	daemon := newFakeDaemon(t, socket, acknowledge)
	r, _ := testRecorder(t, Options{Socket: socket})
	r.Event("mine", "step", nil)
	flush(t, r)
	if got := strings.Join(daemon.got("run_id"), " "); got != "mine" || len(leftIn(state)) != before {
		t.Errorf("sent %s; %v", got, leftIn(state))
	}
}

func TestAFolderThatOthersMayWriteIsNotUsed(t *testing.T) {
	state := newState(t)
	folder := filepath.Join(state, "run-recorder", "unsent")
	_ = os.MkdirAll(folder, 0o700)
	_ = os.Chmod(folder, 0o777)
	r, _ := testRecorder(t, Options{Socket: filepath.Join(state, "events.sock")})
	r.Event("r1", "step", nil)
	if err := r.Close(context.Background()); err == nil || !strings.Contains(err.Error(), "written by others") {
		t.Errorf("%v", err)
	}
	if got := r.Stats(); got != (Counts{Emitted: 1, Dropped: 1}) {
		t.Errorf("%+v", got)
	}
}

func TestTheFolderHasALimit(t *testing.T) {
	state := newState(t)
	socket := filepath.Join(state, "events.sock")
	leave(t, state, "/another", "1", make([]byte, maxUnsentBytes-1500))
	r, _ := testRecorder(t, Options{Socket: socket})
	r.Event("r1", "run_started", nil)
	for i := 0; i < 50; i++ {
		r.Event("r1", "step", Fields{"n": i})
	}
	r.Event("r1", "run_completed", nil)
	err := r.Close(context.Background())
	got := r.Stats()
	if err == nil || got.Kept < 3 || got.Kept > 20 || got.Kept+got.Dropped != 52 {
		t.Errorf("%v %+v", err, got)
	}
	files, _ := filepath.Glob(filepath.Join(state, "run-recorder", "unsent", socketName(socket)+"*"))
	text, _ := os.ReadFile(files[0])
	for _, part := range []string{"run_started", `"n":49`, "run_completed"} {
		if !bytes.Contains(text, []byte(part)) {
			t.Errorf("%s is not kept: %s", part, text)
		}
	}
}

func TestNamesOfSockets(t *testing.T) {
	for path, want := range map[string]string{
		"/run/run-recorder/events.sock": "+run+run-recorder+events.sock", "/a b@+é": "+a%20b%40%2B%C3%A9", strings.Repeat("/é", 100): "",
	} {
		if got := socketName(path); got != want {
			t.Errorf("%s became %s", path, got)
		}
	}
}
