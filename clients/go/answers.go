package runrecorder

// What the daemon answers, one JSON object a line (docs/protocol.md, "Answers"). Pure.

import (
	"bytes"
	"encoding/json"
	"errors"
	"strconv"
)

// answer is what became of one line.
type answer int

const (
	unanswered answer = iota
	later             // there is no room now
	spoolFull         // the same, because the spool is full
	refused           // for its content
)

// reply is one line of the daemon.
type reply struct {
	acked   int64 // 0: it is an error
	line    int64
	code    string
	message string
}

var (
	ackedPrefix     = []byte(`{"acked":`)
	errUnknownReply = errors.New("the daemon's answer is malformed")
)

func parseReply(text []byte) (reply, error) {
	if bytes.HasPrefix(text, ackedPrefix) {
		digits := bytes.TrimRight(text[len(ackedPrefix):], "}\r\n ")
		if acked, err := strconv.ParseInt(string(digits), 10, 64); err == nil && acked > 0 {
			return reply{acked: acked}, nil
		}
	}
	var said struct {
		Acked int64 `json:"acked"`
		Error *struct {
			Line    int64  `json:"line"`
			Code    string `json:"code"`
			Message string `json:"message"`
		} `json:"error"`
	}
	if err := json.Unmarshal(text, &said); err != nil || (said.Error == nil && said.Acked <= 0) {
		return reply{}, errUnknownReply
	}
	if said.Error == nil {
		return reply{acked: said.Acked}, nil
	}
	return reply{line: said.Error.Line, code: said.Error.Code, message: said.Error.Message}, nil
}

func answerOf(code string) answer {
	switch code {
	case "spool_full":
		return spoolFull
	case "unavailable":
		return later
	}
	return refused
}
