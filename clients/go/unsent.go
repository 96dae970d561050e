package runrecorder

// Events that are left at the end, in files of this user's, one a client's end ("What is left at the end" in
// clients/README.md). Each is written once and never changed; whoever has sent all of it removes it.

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
)

const (
	maxUnsentBytes  = 16 << 20 // of all files of the folder
	maxNameBytes    = 200      // of the part that names the socket
	unsentSuffix    = ".ndjson"
	unsentNewSuffix = ".new"
	folderMode      = 0o700
	fileMode        = 0o600
)

var (
	errNoFolder = errors.New("this user has no folder for what could not be sent")
	errNoRoom   = errors.New("16 MiB of events are kept there already")
)

// keepEvents writes events to a file, as many as there is room for: details go first, and the oldest of each.
func keepEvents(socket, unique string, events []*entry) (path string, kept int, err error) {
	folder, err := unsentFolder(true)
	if err != nil {
		return "", 0, err
	}
	name := socketName(socket)
	if name == "" {
		return "", 0, fmt.Errorf("the path of the socket is too long for a file's name: %s", socket)
	}
	events = newestThatFit(events, maxUnsentBytes-bytesIn(folder))
	if len(events) == 0 {
		return "", 0, errNoRoom
	}
	path = filepath.Join(folder, name+"@"+unique+unsentSuffix)
	if err := writeWhole(path, events); err != nil {
		return "", 0, err
	}
	return path, len(events), errNoRoom // of those that are not among them
}

func newestThatFit(events []*entry, room int64) []*entry {
	excess := -room
	for _, e := range events {
		excess += int64(len(e.line))
	}
	if excess <= 0 {
		return events
	}
	for _, lifecycles := range []bool{false, true} {
		left := make([]*entry, 0, len(events))
		for _, e := range events {
			if excess > 0 && e.lifecycle == lifecycles {
				excess -= int64(len(e.line))
			} else {
				left = append(left, e)
			}
		}
		events = left
	}
	return events
}

// writeWhole makes the file under another name first: whoever sees it sees all of it.
func writeWhole(path string, events []*entry) error {
	fresh := strings.TrimSuffix(path, unsentSuffix) + unsentNewSuffix
	err := writeNew(fresh, events)
	if err == nil {
		err = os.Rename(fresh, path)
	}
	if err != nil {
		_ = os.Remove(fresh)
		return err
	}
	if folder, err := os.Open(filepath.Dir(path)); err == nil {
		_ = folder.Sync()
		_ = folder.Close()
	}
	return nil
}

func writeNew(path string, events []*entry) error {
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, fileMode)
	if err != nil {
		return err
	}
	writer := bufio.NewWriterSize(file, maxBatchBytes)
	for _, e := range events {
		_, _ = writer.Write(e.line) // Flush has its error
	}
	err = writer.Flush()
	if err == nil {
		err = file.Sync()
	}
	if closed := file.Close(); err == nil {
		err = closed
	}
	return err
}

// unsentFolder is the folder, where it is this user's own and nobody else may write it.
func unsentFolder(makeIt bool) (string, error) {
	state := os.Getenv("XDG_STATE_HOME")
	if !filepath.IsAbs(state) || isAnothers(state) {
		home := homeFolder()
		if !filepath.IsAbs(home) || isAnothers(home) {
			return "", errNoFolder
		}
		state = filepath.Join(home, ".local", "state")
	}
	folder := filepath.Join(state, "run-recorder", "unsent")
	if makeIt {
		if err := os.MkdirAll(folder, folderMode); err != nil {
			return "", err
		}
	}
	info, err := os.Lstat(folder)
	if err != nil {
		return "", err
	}
	if owner := ownerOf(info); !info.IsDir() || owner != os.Geteuid() || info.Mode().Perm()&0o022 != 0 {
		return "", fmt.Errorf("%s can be written by others than this user", folder)
	}
	return folder, nil
}

// homeFolder is $HOME, which services and cron may leave out; then what the system knows. Empty: none.
func homeFolder() string {
	if home := os.Getenv("HOME"); filepath.IsAbs(home) {
		return home
	}
	account, err := user.LookupId(strconv.Itoa(os.Geteuid()))
	if err != nil {
		return ""
	}
	return account.HomeDir
}

// isAnothers says whether what is made there would lie among another user's files, as for root with the environment
// of whoever called sudo. What root owns is nobody's in particular.
func isAnothers(folder string) bool {
	for {
		if info, err := os.Stat(folder); err == nil {
			owner := ownerOf(info)
			return owner != os.Geteuid() && owner != 0
		}
		above := filepath.Dir(folder)
		if above == folder {
			return false
		}
		folder = above
	}
}

// bytesIn counts the bytes of all files of a folder.
func bytesIn(folder string) (bytes int64) {
	entries, _ := os.ReadDir(folder)
	for _, entry := range entries {
		if info, err := entry.Info(); err == nil && info.Mode().IsRegular() {
			bytes += info.Size()
		}
	}
	return bytes
}

// socketName is the socket's path as a file's name: each / as +, and percent-encoded. Empty: it is too long.
func socketName(socket string) string {
	const upperHex = "0123456789ABCDEF"
	var name strings.Builder
	for _, c := range []byte(socket) {
		switch {
		case c == '/':
			name.WriteByte('+')
		case c >= 'A' && c <= 'Z', c >= 'a' && c <= 'z', c >= '0' && c <= '9', c == '-', c == '.', c == '_', c == '~':
			name.WriteByte(c)
		default:
			name.Write([]byte{'%', upperHex[c>>4], upperHex[c&15]})
		}
	}
	if name.Len() > maxNameBytes {
		return ""
	}
	return name.String()
}
