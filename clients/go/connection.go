package runrecorder

// One connection to the daemon. The sender's goroutine writes; a goroutine of the connection's own reads the answers
// meanwhile. What is in flight belongs to the Recorder's lock.

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"os"
	"time"
)

const maxAnswerBytes = 64 << 10

var (
	errEnded    = errors.New("the connection ended")
	errNoAnswer = fmt.Errorf("no answer for %d s", int(answerTimeout/time.Second))
)

type connection struct {
	s    *sender
	r    *Recorder
	conn net.Conn
	read chan struct{} // closed when the reading goroutine has ended
	out  []byte        // the sender's alone

	// Guarded by the Recorder's lock.
	flight      []*entry // sent and not settled; from flight[begin]
	begin       int
	flightBytes int
	settled     int64    // lines of this connection, so that flight[begin] is line settled+1
	refused     []*entry // to be reduced and sent again
	again       bool     // what is left is to be sent again, when nothing is in flight any more
	mustPause   bool     // before that
	full        bool     // the spool is: lifecycle events first, with one detail
	roundLeft   bool     // lifecycle events did not fit the round
	roundDetail bool     // one was in it
	refusal     string   // the latest
	failure     error    // the connection is at its end
}

func newConnection(s *sender, conn net.Conn) *connection {
	c := &connection{s: s, r: s.r, conn: conn, read: make(chan struct{})}
	c.r.mu.Lock()
	c.r.buffer.rewind()
	c.r.mu.Unlock()
	go c.readAnswers()
	return c
}

// end returns when nothing of this connection happens any more.
func (c *connection) end() {
	_ = c.conn.Close()
	<-c.read
}

// run sends until the connection fails or the Recorder is closed.
func (c *connection) run() error {
	stop := make(chan struct{})
	defer close(stop)
	go func() { // a write that hangs ends with its connection
		select {
		case <-c.s.stopped.Done():
			_ = c.conn.Close()
		case <-stop:
		}
	}()
	c.s.earlier.find()
	for {
		batch, err := c.nextBatch()
		if err != nil || c.s.isStopped() {
			return err
		}
		if len(batch) == 0 {
			continue
		}
		if _, err := c.conn.Write(batch); err != nil {
			return c.endOfWriting()
		}
	}
}

// nextBatch waits for something to send, and marks it as in flight. Empty: something else was done; look again.
func (c *connection) nextBatch() ([]byte, error) {
	c.addEarlier()
	batch, again, err := c.waitForBatch()
	if again {
		c.sendAgain()
	}
	return batch, err
}

// waitForBatch returns without a batch when everything is to be sent again, when more of a file can be read, and when
// the Recorder is closed.
func (c *connection) waitForBatch() (batch []byte, again bool, err error) {
	c.r.mu.Lock()
	defer c.r.mu.Unlock()
	for ; ; c.r.changed.Wait() {
		switch idle := c.inFlight() == 0; {
		case c.failure != nil:
			return nil, false, c.failure
		case c.s.isStopped():
			return nil, false, nil
		case c.again && idle:
			return nil, true, nil
		case c.again:
		default:
			if batch := c.take(); len(batch) > 0 {
				return batch, false, nil
			}
			if idle && c.r.buffer.fromFiles == 0 && c.s.earlier.more() {
				return nil, false, nil
			}
		}
	}
}

// addEarlier puts the next events of earlier files before all others, once those before are settled.
func (c *connection) addEarlier() {
	if !c.s.earlier.more() || !c.canAddEarlier() {
		return
	}
	entries := c.s.earlier.next()
	c.r.mu.Lock()
	defer c.r.mu.Unlock()
	if c.r.ended {
		return
	}
	c.r.counts.Emitted += int64(len(entries))
	c.r.buffer.addFromFile(entries)
}

func (c *connection) canAddEarlier() bool {
	c.r.mu.Lock()
	defer c.r.mu.Unlock()
	return c.r.buffer.fromFiles == 0 && c.inFlight() == 0 && !c.again
}

// endOfWriting waits for what the daemon answered before it closed the connection.
func (c *connection) endOfWriting() error {
	select {
	case <-c.read:
	case <-time.After(stopPatience):
	}
	c.r.mu.Lock()
	defer c.r.mu.Unlock()
	if c.failure != nil {
		return c.failure
	}
	return errEnded
}

func (c *connection) readAnswers() {
	defer close(c.read)
	err := c.readUntilEnd()
	c.r.mu.Lock()
	c.failure = err
	c.r.changed.Broadcast()
	c.r.mu.Unlock()
	_ = c.conn.Close()
}

func (c *connection) readUntilEnd() (err error) {
	defer func() {
		if raised := recover(); raised != nil {
			err = fmt.Errorf("an answer could not be read: %s", typeName(raised))
		}
	}()
	reader := bufio.NewReaderSize(c.conn, maxAnswerBytes)
	for {
		text, err := reader.ReadSlice('\n')
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return errNoAnswer
		}
		if errors.Is(err, bufio.ErrBufferFull) {
			return errUnknownReply
		}
		if err != nil {
			return errEnded
		}
		said, err := parseReply(text)
		if err != nil {
			return err
		}
		if err := c.apply(said); err != nil {
			return err
		}
	}
}
