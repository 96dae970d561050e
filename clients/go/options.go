package runrecorder

// What a Recorder can be told, and what holds where nothing is said. Read once, by New.

import (
	"log"
	"os"
	"path/filepath"
	"time"
)

const (
	defaultBufferBytes   = 16 << 20
	defaultMaxEventBytes = 1 << 20
	defaultFlushTimeout  = 2 * time.Second
	minBufferBytes       = 64 << 10
	minMaxEventBytes     = 4 << 10
)

// Options of New. The zero value is what most programs want.
type Options struct {
	// Socket is the path of the daemon's event socket. Empty: RUN_RECORDER_SOCKET_PATH, else
	// $XDG_RUNTIME_DIR/run-recorder/events.sock where that exists, else /run/run-recorder/events.sock.
	Socket string
	// BufferBytes bounds the events that wait in memory: 16 MiB, at least 64 KiB.
	BufferBytes int
	// MaxEventBytes is the longest line that is sent whole: 1 MiB, as the daemon has it, and never more than a quarter
	// of the buffer. A longer one is sent without its input, result and payload.
	MaxEventBytes int
	// FlushTimeout bounds Close: 2 s.
	FlushTimeout time.Duration
	// Logger is told when something begins to go wrong and when it is over: log.Default().
	Logger Logger
	// Disabled makes every call do nothing. RUN_RECORDER_DISABLED=1 does the same.
	Disabled bool
}

// Logger is what log.Logger has.
type Logger interface {
	Printf(format string, args ...any)
}

func (o Options) withDefaults() Options {
	o.Socket = socketPath(o.Socket)
	o.BufferBytes = atLeast(o.BufferBytes, defaultBufferBytes, minBufferBytes)
	o.MaxEventBytes = atLeast(o.MaxEventBytes, defaultMaxEventBytes, minMaxEventBytes)
	if quarter := o.BufferBytes / 4; o.MaxEventBytes > quarter {
		o.MaxEventBytes = quarter
	}
	if o.FlushTimeout <= 0 {
		o.FlushTimeout = defaultFlushTimeout
	}
	if o.Logger == nil {
		o.Logger = log.Default()
	}
	o.Disabled = o.Disabled || os.Getenv("RUN_RECORDER_DISABLED") == "1"
	return o
}

func atLeast(value, unset, least int) int {
	if value <= 0 {
		return unset
	}
	if value < least {
		return least
	}
	return value
}

func socketPath(given string) string {
	path := given
	if path == "" {
		path = os.Getenv("RUN_RECORDER_SOCKET_PATH")
	}
	if path == "" {
		path = standardSocketPath()
	}
	if absolute, err := filepath.Abs(path); err == nil {
		return absolute
	}
	return path
}

func standardSocketPath() string {
	if folder := os.Getenv("XDG_RUNTIME_DIR"); folder != "" {
		path := filepath.Join(folder, "run-recorder", "events.sock")
		if _, err := os.Stat(path); err == nil {
			return path
		}
	}
	return "/run/run-recorder/events.sock"
}
