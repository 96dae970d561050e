//go:build unix

package runrecorder

import (
	"io/fs"
	"os"
	"syscall"
)

// openNoFollow refuses a symbolic link.
const openNoFollow = os.O_RDONLY | syscall.O_NOFOLLOW | syscall.O_NONBLOCK

// keepStandardStreams puts /dev/null where standard input, output or error is closed: else a connection could become
// standard error, and the daemon read what the program logs.
func keepStandardStreams() {
	for {
		fd, err := syscall.Open(os.DevNull, os.O_RDWR|syscall.O_CLOEXEC, 0)
		if err != nil {
			return
		}
		if fd > syscall.Stderr {
			_ = syscall.Close(fd)
			return
		}
	}
}

func ownerOf(info fs.FileInfo) int {
	if status, ok := info.Sys().(*syscall.Stat_t); ok {
		return int(status.Uid)
	}
	return -1
}
