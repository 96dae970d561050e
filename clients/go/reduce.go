package runrecorder

// The reduced line of one that the daemon refused: the same event, by its id, without what may have made it so.

// reduceLine returns nil where the line cannot be read. It never panics.
func (m *eventMaker) reduceLine(line []byte) (reduced []byte) {
	defer func() {
		if recover() != nil {
			reduced = nil
		}
	}()
	members, ok := decodeObject(line)
	if !ok {
		return nil
	}
	kind, _ := members["type"].(string)
	runID, _ := members["run_id"].(string)
	if runID == "" {
		return nil
	}
	if _, given := members["worker_pid"]; !given {
		members["worker_pid"] = nil // not this process
	}
	e := &encoder{limit: m.maxBytes}
	m.envelope(runID, kind, members).write(e, members, true)
	if e.full {
		return nil
	}
	return append(e.buf, '\n')
}
