package runrecorder

// Reads the files that earlier clients left for this socket, a part at a time, and removes each when all of it is
// settled. The sender's goroutine only.

import (
	"bufio"
	"bytes"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"sort"
	"strings"
)

const (
	maxPartBytes = 1 << 20
	maxPartLines = 4096
)

type earlierEvents struct {
	socket string
	paths  []string // oldest first
	file   *os.File // the one that is being sent
	reader *bufio.Reader
	atEnd  bool // every line of it was handed out
	broken bool // it could not be read to its end
}

// find looks for files, unless some are known already.
func (f *earlierEvents) find() {
	if f.more() {
		return
	}
	folder, err := unsentFolder(false)
	if err != nil {
		return
	}
	entries, err := os.ReadDir(folder)
	if err != nil {
		return
	}
	changed := map[string]int64{}
	prefix := socketName(f.socket) + "@"
	for _, entry := range entries {
		name := entry.Name()
		unique := strings.TrimSuffix(strings.TrimPrefix(name, prefix), unsentSuffix)
		info, err := entry.Info()
		if err != nil || name != prefix+unique+unsentSuffix || !isUnique(unique) || !isOurs(info) {
			continue
		}
		path := filepath.Join(folder, name)
		changed[path] = info.ModTime().UnixNano()
		f.paths = append(f.paths, path)
	}
	sort.SliceStable(f.paths, func(i, j int) bool { return changed[f.paths[i]] < changed[f.paths[j]] })
}

func isOurs(info os.FileInfo) bool {
	return info.Mode().IsRegular() && ownerOf(info) == os.Geteuid() && info.Size() <= 2*maxUnsentBytes
}

func isUnique(name string) bool {
	for _, c := range []byte(name) {
		if !(c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '-') {
			return false
		}
	}
	return name != ""
}

// more says whether there is something left to send or to remove.
func (f *earlierEvents) more() bool { return f.file != nil || len(f.paths) > 0 }

// next is the next part; everything before must be settled. Empty when there is nothing more.
func (f *earlierEvents) next() []*entry {
	for f.more() {
		if f.file == nil && !f.openNext() {
			continue
		}
		if part := f.part(); len(part) > 0 {
			return part
		}
		f.removeFile()
	}
	return nil
}

func (f *earlierEvents) openNext() bool {
	path := f.paths[0]
	f.paths = f.paths[1:]
	file, err := os.OpenFile(path, openNoFollow, 0)
	if err != nil { // another client has sent it
		return false
	}
	f.file, f.reader, f.atEnd = file, bufio.NewReaderSize(file, maxBatchBytes), false
	f.broken = false
	return true
}

func (f *earlierEvents) part() (part []*entry) {
	for size := 0; !f.atEnd && size < maxPartBytes && len(part) < maxPartLines; {
		line, err := f.reader.ReadBytes('\n')
		f.atEnd = err != nil
		f.broken = err != nil && err != io.EOF
		line = bytes.TrimSpace(line)
		if len(line) == 0 {
			continue
		}
		size += len(line)
		part = append(part, earlierEvent(line))
	}
	return part
}

func earlierEvent(line []byte) *entry {
	var event struct {
		Type      string `json:"type"`
		Truncated bool   `json:"truncated"`
	}
	_ = json.Unmarshal(line, &event) // what is malformed the daemon refuses
	return &entry{line: append(line, '\n'), fromFile: true, lifecycle: isLifecycle(event.Type),
		reduced: event.Truncated}
}

func (f *earlierEvents) removeFile() {
	if !f.broken {
		_ = os.Remove(f.file.Name())
	}
	f.close()
}

// close leaves the file where it is.
func (f *earlierEvents) close() {
	if f.file != nil {
		_ = f.file.Close()
	}
	f.file, f.reader = nil, nil
}
