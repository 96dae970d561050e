package runrecorder

// What the daemon's answers do to the events in flight. The connection's reading goroutine calls.

import (
	"errors"
	"fmt"
)

var errUnavailable = errors.New("the daemon is unavailable")

// apply returns an error where the connection is at its end.
func (c *connection) apply(said reply) error {
	if said.acked == 0 && said.line == 0 {
		if said.code == "forbidden" {
			return fmt.Errorf("%w: %s", errForbidden, said.message)
		}
		return fmt.Errorf("%w: %s", errUnavailable, said.message)
	}
	if said.acked == 0 {
		c.note(said)
		return nil
	}
	c.settle(said.acked)
	return nil
}

// note remembers what a line was answered; it is settled by the acknowledgment that covers it.
func (c *connection) note(said reply) {
	code := answerOf(said.code)
	message := cutCharacters(said.message, maxObjectText)
	c.r.mu.Lock()
	defer c.r.mu.Unlock()
	at := said.line - c.settled - 1
	if at < 0 || at >= int64(c.inFlight()) {
		return
	}
	e := c.flight[c.begin+int(at)]
	e.answer = code
	switch code {
	case refused:
		c.refusal = cutCharacters(said.code, maxTypeBytes) + ": " + message
		if e.reduced && !e.gone {
			c.r.words.refusal(c.refusal)
		}
	case spoolFull:
		c.r.words.begin(spoolIsFull, "the daemon has no room (%s: %s); events are kept in memory", c.r.options.Socket, message)
	}
}

// settle takes every line up to that one out of the flight.
func (c *connection) settle(line int64) {
	acknowledged, lost := c.land(line)
	if acknowledged > 0 {
		c.s.goesWell()
	}
	c.r.sayLost(lost)
}

func (c *connection) land(line int64) (acknowledged int, lost int64) {
	c.r.mu.Lock()
	defer c.r.mu.Unlock()
	for !c.r.ended && c.settled < line && c.inFlight() > 0 {
		e := c.flight[c.begin]
		c.flight[c.begin] = nil
		c.begin++
		c.settled++
		c.flightBytes -= len(e.line)
		if c.settleOne(e) {
			acknowledged++
		}
	}
	c.compact()
	c.nextDeadline()
	c.r.wakeWaiters()
	c.r.changed.Signal()
	return acknowledged, c.r.endOfLoss()
}

// settleOne says whether the daemon has it now. Called with the lock.
func (c *connection) settleOne(e *entry) (acknowledged bool) {
	switch {
	case e.gone: // and counted
		return false
	case e.answer == unanswered:
		c.r.buffer.remove(e)
		c.r.counts.Acknowledged++
		return true
	case e.answer == refused && e.reduced:
		c.r.buffer.remove(e)
		c.r.counts.Refused++
		return false
	case e.answer == refused:
		c.refused = append(c.refused, e)
	default:
		c.mustPause = true
		c.full = c.full || e.answer == spoolFull
	}
	c.again = true
	return false
}
