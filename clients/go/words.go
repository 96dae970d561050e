package runrecorder

// What a Recorder says to the program's logger: when something begins and when it is over, never once an event. Any
// goroutine may call; a goroutine of its own writes, so that a logger that blocks or panics harms nobody.

import (
	"fmt"
	"sync"
	"time"
)

const (
	maxUnsaid      = 64
	refusalsApart  = time.Minute
	loggerPatience = 200 * time.Millisecond // at the end
)

type trouble int

const (
	daemonAway trouble = iota
	spoolIsFull
	bufferIsFull
	recorderClosed
	troubles
)

type words struct {
	logger Logger
	queue  chan word

	mu          sync.Mutex
	writing     bool
	active      [troubles]bool
	lastRefusal time.Time
	unsaid      int // refusals
}

// word is a text, or whoever waits until the logger has those before.
type word struct {
	text string
	done chan struct{}
}

func newWords(logger Logger) *words {
	return &words{logger: logger, queue: make(chan word, maxUnsaid)}
}

// begin says a trouble once until it is over.
func (w *words) begin(what trouble, format string, args ...any) {
	w.mu.Lock()
	already := w.active[what]
	w.active[what] = true
	w.mu.Unlock()
	if !already {
		w.say(format, args...)
	}
}

func (w *words) over(what trouble, format string, args ...any) {
	w.mu.Lock()
	was := w.active[what]
	w.active[what] = false
	w.mu.Unlock()
	if was {
		w.say(format, args...)
	}
}

// refusal says at most one a minute, with the number of those in between.
func (w *words) refusal(message string) {
	w.mu.Lock()
	w.unsaid++
	count, quiet := w.unsaid, time.Since(w.lastRefusal) < refusalsApart
	if !quiet {
		w.unsaid, w.lastRefusal = 0, time.Now()
	}
	w.mu.Unlock()
	switch {
	case quiet:
	case count > 1:
		w.say("%d events were refused, the last one: %s", count, message)
	default:
		w.say("an event was refused: %s", message)
	}
}

// say never waits: what the logger is too slow for is left out.
func (w *words) say(format string, args ...any) {
	w.mu.Lock()
	if !w.writing {
		w.writing = true
		go w.write()
	}
	w.mu.Unlock()
	select {
	case w.queue <- word{text: fmt.Sprintf(format, args...)}:
	default:
	}
}

func (w *words) write() {
	for one := range w.queue {
		if one.done != nil {
			close(one.done)
		} else {
			w.log(one.text)
		}
	}
}

func (w *words) log(text string) {
	defer func() { _ = recover() }()
	w.logger.Printf("run-recorder: %s", text)
}

// flush gives the logger a moment for what was said.
func (w *words) flush() {
	w.mu.Lock()
	writing := w.writing
	w.mu.Unlock()
	if !writing {
		return
	}
	done := make(chan struct{})
	patience := time.After(loggerPatience)
	select {
	case w.queue <- word{done: done}:
	case <-patience:
		return
	}
	select {
	case <-done:
	case <-patience:
	}
}
