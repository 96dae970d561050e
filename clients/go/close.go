package runrecorder

// The end of a Recorder: a bounded time for what is not acknowledged, then a file for the rest.

import (
	"context"
	"fmt"
	"time"
)

// Close sends what waits, for at most the flush timeout and as long as ctx allows, and writes the rest to a file that
// the next client of this user sends. Events after it are counted as dropped. The error says what was left; nil:
// everything is settled. Later calls wait for the first and say the same.
func (r *Recorder) Close(ctx context.Context) error {
	if r.isOff() {
		return nil
	}
	r.closeOnce.Do(func() {
		defer close(r.closed)
		defer func() {
			if raised := recover(); raised != nil {
				r.leftover = fmt.Errorf("run-recorder: the end failed: %s", typeName(raised))
			}
		}()
		r.leftover = r.close(orBackground(ctx))
	})
	<-r.closed
	return r.leftover
}

func (r *Recorder) close(ctx context.Context) error {
	r.mu.Lock()
	r.closing = true
	started, waiting := r.started, r.buffer.own()
	r.mu.Unlock()
	r.sender.hurry()
	if waiting > 0 {
		limited, cancel := context.WithTimeout(ctx, r.options.FlushTimeout)
		_ = r.Flush(limited)
		cancel()
	}
	if started {
		r.sender.stop()
	}
	err := r.keepTheRest()
	r.words.flush()
	return err
}

// keepTheRest writes what is left to a file. The sender has ended.
func (r *Recorder) keepTheRest() error {
	left := r.takeTheRest()
	if len(left) == 0 {
		r.settleTheRest(0, 0)
		return nil
	}
	path, kept, err := keepEvents(r.options.Socket, r.uniqueName(), left)
	dropped := len(left) - kept
	r.settleTheRest(kept, dropped)
	if kept > 0 {
		r.words.say("%d events could not be sent; they are in %s", kept, path)
	}
	if dropped > 0 {
		r.words.say("%d events were dropped: %v", dropped, err)
		return fmt.Errorf("run-recorder: %d events kept, %d dropped: %w", kept, dropped, err)
	}
	return fmt.Errorf("run-recorder: %d events could not be sent; they are in %s", kept, path)
}

// takeTheRest empties the buffer; nothing is settled after it. What came from files is in them still.
func (r *Recorder) takeTheRest() []*entry {
	r.mu.Lock()
	defer r.mu.Unlock()
	left := make([]*entry, 0, r.buffer.own())
	for e := r.buffer.order.first; e != nil; e = e.links[0].after {
		if !e.fromFile {
			left = append(left, e)
		}
	}
	r.ended = true
	r.keeping = len(left)
	r.counts.Kept += int64(r.buffer.fromFiles)
	r.buffer = newBuffer(r.options.BufferBytes)
	return left
}

func (r *Recorder) settleTheRest(kept, dropped int) {
	r.mu.Lock()
	r.keeping = 0
	r.counts.Kept += int64(kept)
	r.counts.Dropped += int64(dropped)
	lost := r.lost
	r.lost = 0
	r.wakeWaiters()
	r.mu.Unlock()
	if lost > 0 {
		r.words.over(bufferIsFull, "the buffer was full: %d events were dropped", lost)
	}
}

func (r *Recorder) uniqueName() string {
	return fmt.Sprintf("%x-%s", time.Now().UnixMicro(), r.maker.instance)
}
