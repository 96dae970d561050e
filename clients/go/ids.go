package runrecorder

// Ids of runs and events. Thread-safe.

import (
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	mathrand "math/rand"
	"time"
)

// NewRunID makes a run id: a UUID of version 7, which sorts by the time when it was made.
func NewRunID() string {
	var id [16]byte
	fillRandom(id[:])
	var milliseconds [8]byte
	binary.BigEndian.PutUint64(milliseconds[:], uint64(time.Now().UnixMilli()))
	copy(id[:6], milliseconds[2:])
	id[6] = id[6]&0x0f | 0x70
	id[8] = id[8]&0x3f | 0x80
	var text [36]byte
	hex.Encode(text[0:8], id[0:4])
	hex.Encode(text[9:13], id[4:6])
	hex.Encode(text[14:18], id[6:8])
	hex.Encode(text[19:23], id[8:10])
	hex.Encode(text[24:36], id[10:16])
	text[8], text[13], text[18], text[23] = '-', '-', '-', '-'
	return string(text[:])
}

// newInstanceID makes the 12 hexadecimal digits that the ids of one Recorder's events begin with.
func newInstanceID() string {
	var random [6]byte
	fillRandom(random[:])
	return hex.EncodeToString(random[:])
}

// fillRandom never fails: where the system has no random bytes, those of math/rand have to do.
func fillRandom(bytes []byte) {
	if _, err := rand.Read(bytes); err != nil {
		source := mathrand.New(mathrand.NewSource(time.Now().UnixNano()))
		source.Read(bytes)
	}
}
