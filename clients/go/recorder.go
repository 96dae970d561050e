package runrecorder

// A Recorder: what callers call, and the counts. Its lock guards the buffer, the counts and what is in flight; it is
// held for moments only, never while something is read, written or said.

import (
	"context"
	"fmt"
	"sync"
)

// Recorder sends events to one daemon. Make it with New; a nil Recorder does nothing.
type Recorder struct {
	options Options
	maker   *eventMaker
	words   *words
	sender  *sender

	mu        sync.Mutex
	changed   *sync.Cond // something for the sender to do
	buffer    buffer
	number    uint64 // of the latest event
	counts    Counts
	lost      int64 // dropped since the buffer is full
	waiters   []waiter
	started   bool // the sender
	closing   bool // no events any more, and nothing is worth a long pause
	ended     bool // nothing is settled any more
	keeping   int  // events that are being written to a file
	closeOnce sync.Once
	closed    chan struct{}
	leftover  error // of Close
}

// waiter waits until every event up to that number is settled.
type waiter struct {
	number uint64
	done   chan struct{}
}

// New makes a Recorder. It connects when there is something to send.
func New(options Options) *Recorder {
	options = options.withDefaults()
	r := &Recorder{
		options: options,
		maker:   newEventMaker(options.MaxEventBytes),
		words:   newWords(options.Logger),
		buffer:  newBuffer(options.BufferBytes),
		closed:  make(chan struct{}),
	}
	r.changed = sync.NewCond(&r.mu)
	r.sender = newSender(r)
	return r
}

func (r *Recorder) isOff() bool { return r == nil || r.options.Disabled }

// Event sends any event of the protocol. Fields have the protocol's names; worker_pid is this process unless they give
// another or, by nil, none; at is now unless they give a time.
func (r *Recorder) Event(runID, kind string, fields Fields) {
	if r.isOff() {
		return
	}
	made := r.maker.make(runID, kind, fields)
	if made.line == nil {
		r.countRefused()
		r.words.refusal(made.problem)
		return
	}
	fate := r.add(&entry{line: made.line, lifecycle: made.lifecycle, reduced: made.reduced})
	switch fate {
	case firstLost:
		r.words.begin(bufferIsFull, "the buffer is full (%d bytes): the oldest details go first, then the oldest of the others",
			r.options.BufferBytes)
	case tooLate:
		r.words.begin(recorderClosed, "the recorder is closed: events after that are dropped")
	}
}

func (r *Recorder) countRefused() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.counts.Emitted++
	r.counts.Refused++
}

// fate is what there is to say after an event was added.
type fate int

const (
	added     fate = iota
	firstLost      // it, or others for it, and none before
	tooLate        // after Close
)

func (r *Recorder) add(e *entry) fate {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.counts.Emitted++
	if e.reduced {
		r.counts.Truncated++
	}
	if r.closing {
		r.counts.Dropped++
		return tooLate
	}
	r.number++
	e.number = r.number
	dropped := int64(r.buffer.push(e))
	r.counts.Dropped += dropped
	r.lost += dropped
	if !r.started {
		r.started = true
		go r.sender.run()
	}
	r.changed.Signal()
	if dropped > 0 && r.lost == dropped {
		return firstLost
	}
	return added
}

// Stats counts the events so far.
func (r *Recorder) Stats() Counts {
	if r.isOff() {
		return Counts{}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	counts := r.counts
	counts.Waiting = int64(r.buffer.count + r.keeping)
	return counts
}

// Flush waits until every event so far is settled, at most until ctx is done; nil: they are.
func (r *Recorder) Flush(ctx context.Context) error {
	if r.isOff() {
		return nil
	}
	ctx = orBackground(ctx)
	r.mu.Lock()
	one := waiter{r.number, make(chan struct{})}
	r.waiters = append(r.waiters, one)
	r.wakeWaiters()
	r.mu.Unlock()
	select {
	case <-one.done:
		return nil
	case <-ctx.Done():
		r.forget(one)
		return fmt.Errorf("run-recorder: %d events are not acknowledged yet: %w", r.Stats().Waiting, ctx.Err())
	}
}

func (r *Recorder) forget(gone waiter) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for i, one := range r.waiters {
		if one.done == gone.done {
			r.waiters = append(r.waiters[:i], r.waiters[i+1:]...)
			return
		}
	}
}

// wakeWaiters is called with the lock, whenever events were settled.
func (r *Recorder) wakeWaiters() {
	if len(r.waiters) == 0 {
		return
	}
	oldest := r.buffer.firstOwn()
	left := r.waiters[:0]
	for _, one := range r.waiters {
		if oldest == nil || oldest.number > one.number {
			close(one.done)
		} else {
			left = append(left, one)
		}
	}
	r.waiters = left
}

// endOfLoss is how many events were dropped, once the buffer has room again; 0: nothing to say. Called with the lock.
func (r *Recorder) endOfLoss() int64 {
	if r.lost == 0 || r.buffer.bytes > r.buffer.limit/2 {
		return 0
	}
	lost := r.lost
	r.lost = 0
	return lost
}

func (r *Recorder) sayLost(lost int64) {
	if lost > 0 {
		r.words.over(bufferIsFull, "the buffer has room again; %d events were dropped", lost)
	}
}

func orBackground(ctx context.Context) context.Context {
	if ctx == nil {
		return context.Background()
	}
	return ctx
}
