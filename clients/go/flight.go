package runrecorder

// What of a connection is in flight: sent, and not settled. All of it with the Recorder's lock.

import "time"

const (
	maxFlightLines  = 4096
	maxFlightBytes  = 1 << 20
	maxBatchBytes   = 256 << 10
	compactedFlight = 1024 // settled lines that are worth moving the others
)

func (c *connection) inFlight() int { return len(c.flight) - c.begin }

// take fills the next batch. Called with the lock.
func (c *connection) take() []byte {
	c.out = c.out[:0]
	if c.full {
		c.takeRound()
		return c.out
	}
	files := c.r.buffer.fromFiles > 0 || c.s.earlier.more()
	for e := c.r.buffer.next; e != nil && c.fits(e) && (e.fromFile || !files); e = e.links[0].after {
		c.fly(e)
		c.r.buffer.next = e.links[0].after
	}
	return c.out
}

// takeRound sends lifecycle events and one detail, and waits for all their answers.
func (c *connection) takeRound() {
	c.roundDetail, c.roundLeft = false, false
	for e := c.r.buffer.order.first; e != nil; e = e.links[0].after {
		if !e.lifecycle && c.roundDetail {
			continue
		}
		if !c.fits(e) {
			c.roundLeft = true
			break
		}
		c.fly(e)
		c.roundDetail = c.roundDetail || !e.lifecycle
	}
	c.again = len(c.out) > 0
}

func (c *connection) fits(e *entry) bool {
	if c.inFlight() == 0 {
		return true
	}
	return c.inFlight() < maxFlightLines && c.flightBytes+len(e.line) <= maxFlightBytes &&
		len(c.out)+len(e.line) <= maxBatchBytes
}

func (c *connection) fly(e *entry) {
	if c.inFlight() == 0 {
		_ = c.conn.SetReadDeadline(time.Now().Add(c.s.patience))
	}
	e.answer = unanswered
	c.out = append(c.out, e.line...)
	c.flight = append(c.flight, e)
	c.flightBytes += len(e.line)
}

// compact gives back the memory of what is settled.
func (c *connection) compact() {
	if c.begin == len(c.flight) {
		c.flight, c.begin = c.flight[:0], 0
	} else if c.begin >= compactedFlight {
		left := copy(c.flight, c.flight[c.begin:])
		for i := left; i < len(c.flight); i++ {
			c.flight[i] = nil
		}
		c.flight, c.begin = c.flight[:left], 0
	}
}

// nextDeadline gives the daemon its time anew, while something is in flight.
func (c *connection) nextDeadline() {
	deadline := time.Time{}
	if c.inFlight() > 0 {
		deadline = time.Now().Add(c.s.patience)
	}
	_ = c.conn.SetReadDeadline(deadline)
}
