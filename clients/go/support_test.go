package runrecorder

// What the tests share: a daemon that answers as a test wants, a logger that remembers, and waiting for conditions.

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

const patience = 60 * time.Second

func waitFor(t *testing.T, what string, condition func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !condition(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("in vain: %s", what)
		}
	}
}

type memoryLogger struct {
	mu    sync.Mutex
	lines []string
}

func (l *memoryLogger) Printf(format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines = append(l.lines, fmt.Sprintf(format, args...))
}

func (l *memoryLogger) count(part string) (count int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, line := range l.lines {
		if strings.Contains(line, part) {
			count++
		}
	}
	return count
}

// fakeDaemon reads lines and answers each as the test says: with nothing, or with lines of its own.
type fakeDaemon struct {
	path     string
	listener net.Listener
	answer   func(connection, line int, event map[string]any) string

	mu          sync.Mutex
	connections []net.Conn
	received    []map[string]any
}

func acknowledge(_, line int, _ map[string]any) string { return fmt.Sprintf(`{"acked":%d}`, line) }

func refusal(line int, code string) string {
	return fmt.Sprintf(`{"error":{"line":%d,"code":%q,"message":"the test says so"}}`+"\n"+`{"acked":%d}`, line, code, line)
}

func newFakeDaemon(t *testing.T, path string, answer func(connection, line int, event map[string]any) string) *fakeDaemon {
	t.Helper()
	listener, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	daemon := &fakeDaemon{path: path, listener: listener, answer: answer}
	go daemon.accept()
	t.Cleanup(daemon.stop)
	return daemon
}

func (d *fakeDaemon) accept() {
	for {
		conn, err := d.listener.Accept()
		if err != nil {
			return
		}
		d.mu.Lock()
		d.connections = append(d.connections, conn)
		number := len(d.connections)
		d.mu.Unlock()
		go d.serve(number, conn)
	}
}

func (d *fakeDaemon) serve(connection int, conn net.Conn) {
	defer conn.Close()
	lines := bufio.NewScanner(conn)
	lines.Buffer(nil, 4<<20)
	for line := 1; lines.Scan(); line++ {
		var event map[string]any
		if json.Unmarshal(lines.Bytes(), &event) != nil {
			event = map[string]any{"malformed": lines.Text()}
		}
		d.mu.Lock()
		d.received = append(d.received, event)
		d.mu.Unlock()
		answer := d.answer(connection, line, event)
		if answer == "end" {
			return
		}
		if answer != "" {
			fmt.Fprintln(conn, answer)
		}
	}
}

func (d *fakeDaemon) stop() {
	_ = d.listener.Close()
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, conn := range d.connections {
		_ = conn.Close()
	}
}

// got is one field of all events that were received.
func (d *fakeDaemon) got(field string) (values []string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, event := range d.received {
		values = append(values, fmt.Sprint(event[field]))
	}
	return values
}

func (d *fakeDaemon) count() int { return len(d.got("type")) }

// testRecorder has a socket and a folder for what is left of its own.
func testRecorder(t *testing.T, options Options) (*Recorder, *memoryLogger) {
	t.Helper()
	if options.Socket == "" {
		options.Socket = filepath.Join(newState(t), "events.sock")
	}
	logger := &memoryLogger{}
	if options.Logger == nil {
		options.Logger = logger
	}
	if options.FlushTimeout == 0 {
		options.FlushTimeout = 10 * time.Millisecond
	}
	r := New(options)
	t.Cleanup(func() {
		_ = r.Close(context.Background())
		if counts := r.Stats(); counts.Emitted != counts.Acknowledged+counts.Refused+counts.Dropped+counts.Kept+counts.Waiting {
			t.Errorf("the counts do not add up: %+v", counts)
		}
	})
	return r, logger
}

// newState makes a folder that is XDG_STATE_HOME for this test.
func newState(t *testing.T) string {
	t.Helper()
	folder := t.TempDir()
	t.Setenv("XDG_STATE_HOME", folder)
	return folder
}

func flush(t *testing.T, r *Recorder) {
	t.Helper()
	limited, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := r.Flush(limited); err != nil {
		t.Fatal(err)
	}
}
