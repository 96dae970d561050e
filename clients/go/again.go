package runrecorder

// Sending again on the same connection, after the daemon had no room or refused something. The sender's goroutine.

// sendAgain does what has to be done before everything that is left is sent again. Nothing is in flight.
func (c *connection) sendAgain() {
	refused, mustPause := c.takeRefused()
	for _, e := range refused {
		c.reduce(e)
	}
	if mustPause {
		c.s.backOff()
	}
	c.rewind(mustPause)
}

func (c *connection) takeRefused() (refused []*entry, mustPause bool) {
	c.r.mu.Lock()
	defer c.r.mu.Unlock()
	refused, mustPause = c.refused, c.mustPause
	c.refused, c.mustPause = nil, false
	return refused, mustPause
}

// rewind ends the time in which lifecycle events go first, once a round of them and a detail were all taken.
func (c *connection) rewind(paused bool) {
	c.r.mu.Lock()
	defer c.r.mu.Unlock()
	c.again = false
	c.r.buffer.rewind()
	if c.full && !paused && !c.roundLeft && (c.roundDetail || c.r.buffer.count == 0) {
		c.full = false
		c.r.words.over(spoolIsFull, "the daemon takes events again (%s)", c.r.options.Socket)
	}
}

// reduce gives an event its reduced line; one that has none is refused for good.
func (c *connection) reduce(e *entry) {
	line := c.r.maker.reduceLine(e.line)
	c.r.mu.Lock()
	defer c.r.mu.Unlock()
	switch {
	case e.gone || c.r.ended:
	case line == nil:
		c.r.buffer.remove(e)
		c.r.counts.Refused++
		c.r.wakeWaiters()
		c.r.words.refusal(c.refusal)
	default:
		c.r.buffer.replaceLine(e, line)
		c.r.counts.Truncated++
	}
}
