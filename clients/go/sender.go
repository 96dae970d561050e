package runrecorder

// The goroutine that sends. It connects, sends what is left from earlier and then the buffer, and goes on until Close.
// Nothing ends it before that: what goes wrong is a pause.

import (
	"context"
	"errors"
	"net"
	"sync"
	"time"
)

const (
	dialTimeout      = 5 * time.Second
	answerTimeout    = 30 * time.Second
	firstPause       = 100 * time.Millisecond
	longestPause     = 5 * time.Second
	longestForbidden = 30 * time.Second // after the daemon refused this user
	stopPatience     = time.Second
	restartTime      = time.Second // of pauses: a connection that ends after it means a daemon that is away
)

var errForbidden = errors.New("forbidden")

type sender struct {
	r        *Recorder
	patience time.Duration // for an answer
	earlier  earlierEvents
	stopped  context.Context
	cancel   context.CancelFunc
	ended    chan struct{}

	hurried   chan struct{} // closed: Close waits
	hurryOnce sync.Once

	// Guarded by the Recorder's lock.
	pause     time.Duration // before the next try
	forbidden bool
}

func newSender(r *Recorder) *sender {
	stopped, cancel := context.WithCancel(context.Background())
	return &sender{r: r, patience: answerTimeout, earlier: earlierEvents{socket: r.options.Socket}, stopped: stopped, cancel: cancel,
		ended: make(chan struct{}), hurried: make(chan struct{})}
}

func (s *sender) hurry() { s.hurryOnce.Do(func() { close(s.hurried) }) }

// stop ends the goroutine and its connection. Nothing is settled after it.
func (s *sender) stop() {
	s.cancel()
	s.r.mu.Lock()
	s.r.changed.Broadcast()
	s.r.mu.Unlock()
	select {
	case <-s.ended:
	case <-time.After(stopPatience):
	}
}

func (s *sender) isStopped() bool { return s.stopped.Err() != nil }

func (s *sender) run() {
	defer close(s.ended)
	defer s.earlier.close()
	for s.waitForWork() {
		s.once()
	}
}

// waitForWork returns false when the Recorder is closed.
func (s *sender) waitForWork() bool {
	s.r.mu.Lock()
	defer s.r.mu.Unlock()
	for s.r.buffer.count == 0 && !s.isStopped() {
		s.r.changed.Wait()
	}
	return !s.isStopped()
}

// once is one connection, from its making to its end, and the pause after it.
func (s *sender) once() {
	defer func() {
		if raised := recover(); raised != nil {
			s.r.words.say("the sender failed and goes on: %v", typeName(raised))
			s.sleep(time.Second)
		}
	}()
	keepStandardStreams()
	dialer := net.Dialer{Timeout: dialTimeout}
	conn, err := dialer.DialContext(s.stopped, "unix", s.r.options.Socket)
	if err == nil {
		err = s.serve(conn)
	}
	if err != nil && !s.isStopped() {
		s.away(err)
		s.backOff()
	}
}

func (s *sender) serve(conn net.Conn) error {
	c := newConnection(s, conn)
	defer c.end()
	return c.run()
}

// away says that events are kept, where some are.
func (s *sender) away(err error) {
	forbidden := errors.Is(err, errForbidden)
	s.r.mu.Lock()
	s.forbidden = forbidden
	often := s.pause >= restartTime
	s.r.mu.Unlock()
	if forbidden {
		s.r.words.begin(daemonAway, "the daemon refuses this user (%s: %v); events are kept in memory",
			s.r.options.Socket, err)
		return
	}
	if errors.Is(err, errEnded) && !often {
		return // a daemon that starts again is there at the next try
	}
	s.r.words.begin(daemonAway, "the daemon is away (%s: %s); events are kept in memory", s.r.options.Socket, reason(err))
}

// reason is the system's word for what failed, without the address that is said beside it.
func reason(err error) string {
	var operation *net.OpError
	if errors.As(err, &operation) && operation.Err != nil {
		return operation.Err.Error()
	}
	return err.Error()
}

// goesWell is called when the daemon has taken something.
func (s *sender) goesWell() {
	s.r.mu.Lock()
	s.pause, s.forbidden = 0, false
	s.r.mu.Unlock()
	s.r.words.over(daemonAway, "the daemon is back (%s)", s.r.options.Socket)
}

// backOff pauses, twice as long as the last time.
func (s *sender) backOff() {
	s.r.mu.Lock()
	longest := longestPause
	if s.forbidden {
		longest = longestForbidden
	}
	if s.pause *= 2; s.pause < firstPause {
		s.pause = firstPause
	}
	if s.pause > longest {
		s.pause = longest
	}
	pause := s.pause
	s.r.mu.Unlock()
	s.sleep(pause)
}

// sleep is cut short by Close: by its beginning to the first pause, by its end to nothing.
func (s *sender) sleep(pause time.Duration) {
	if pause > firstPause && !s.wait(pause-firstPause, s.hurried) {
		return
	}
	s.wait(firstPause, nil)
}

// wait returns false when the Recorder is closed.
func (s *sender) wait(pause time.Duration, cut <-chan struct{}) bool {
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-cut:
	case <-s.stopped.Done():
		return false
	}
	return true
}
