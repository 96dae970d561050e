package runrecorder

// The events that wait, oldest first, bounded in bytes. Its owner's lock guards it.

// entryOverhead is what an event costs beside its line: the entry itself, and what the allocator rounds up.
const entryOverhead = 192

// entry is an event that waits: in memory only, or for an answer too.
type entry struct {
	line      []byte // with its newline
	number    uint64 // in the order of the calls; 0 where it comes from a file
	fromFile  bool   // one that was left from earlier
	lifecycle bool
	reduced   bool
	gone      bool // dropped while it was in flight
	answer    answer
	links     [2]struct{ before, after *entry }
}

func (e *entry) bytes() int { return len(e.line) + entryOverhead }

// entryList is a list of entries; each entry can be in one list of each kind of link.
type entryList struct {
	link        int
	first, last *entry
}

func (l *entryList) pushBack(e *entry) {
	e.links[l.link].before, e.links[l.link].after = l.last, nil
	if l.last == nil {
		l.first = e
	} else {
		l.last.links[l.link].after = e
	}
	l.last = e
}

func (l *entryList) insertBefore(next, e *entry) {
	if next == nil {
		l.pushBack(e)
		return
	}
	before := next.links[l.link].before
	e.links[l.link].before, e.links[l.link].after = before, next
	next.links[l.link].before = e
	if before == nil {
		l.first = e
	} else {
		before.links[l.link].after = e
	}
}

func (l *entryList) remove(e *entry) {
	link := &e.links[l.link]
	if link.before == nil {
		l.first = link.after
	} else {
		link.before.links[l.link].after = link.after
	}
	if link.after == nil {
		l.last = link.before
	} else {
		link.after.links[l.link].before = link.before
	}
	link.before, link.after = nil, nil
}

// buffer is all entries in the order in which they are sent, those from files first, and beside it the own ones by
// what may be dropped first.
type buffer struct {
	limit      int // bytes of own entries
	bytes      int
	count      int // of all entries
	fromFiles  int // of them
	order      entryList
	details    entryList
	lifecycles entryList
	next       *entry // the first that is not in flight
}

func newBuffer(limit int) buffer {
	return buffer{limit: limit, order: entryList{link: 0}, details: entryList{link: 1}, lifecycles: entryList{link: 1}}
}

// push adds an own event and returns how many were dropped for it, perhaps itself.
func (b *buffer) push(e *entry) (dropped int) {
	for b.bytes+e.bytes() > b.limit {
		victim := b.details.first
		if victim == nil && e.lifecycle {
			victim = b.lifecycles.first
		}
		if victim == nil {
			return dropped + 1
		}
		victim.gone = true
		b.remove(victim)
		dropped++
	}
	b.order.pushBack(e)
	b.classOf(e).pushBack(e)
	b.bytes += e.bytes()
	b.count++
	if b.next == nil {
		b.next = e
	}
	return dropped
}

// addFromFile puts events of a file before all own ones.
func (b *buffer) addFromFile(entries []*entry) {
	own := b.firstOwn()
	for _, e := range entries {
		b.order.insertBefore(own, e)
	}
	b.count += len(entries)
	b.fromFiles += len(entries)
	b.rewind()
}

func (b *buffer) remove(e *entry) {
	if b.next == e {
		b.next = e.links[0].after
	}
	b.order.remove(e)
	b.count--
	if e.fromFile {
		b.fromFiles--
		return
	}
	b.classOf(e).remove(e)
	b.bytes -= e.bytes()
}

// replaceLine gives an entry its reduced line.
func (b *buffer) replaceLine(e *entry, line []byte) {
	if !e.fromFile {
		b.bytes += len(line) - len(e.line)
	}
	e.line, e.reduced = line, true
}

// rewind makes everything be sent again. Nothing may be in flight.
func (b *buffer) rewind() { b.next = b.order.first }

func (b *buffer) classOf(e *entry) *entryList {
	if e.lifecycle {
		return &b.lifecycles
	}
	return &b.details
}

// firstOwn is the oldest event that does not come from a file.
func (b *buffer) firstOwn() *entry {
	detail, lifecycle := b.details.first, b.lifecycles.first
	if detail == nil || (lifecycle != nil && lifecycle.number < detail.number) {
		return lifecycle
	}
	return detail
}

// own counts the events that do not come from a file.
func (b *buffer) own() int { return b.count - b.fromFiles }
