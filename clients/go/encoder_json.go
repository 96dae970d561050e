package runrecorder

// JSON that comes as text: what a MarshalJSON returned, a RawMessage, a number. It is read and written again, because
// it may hold what the daemon refuses.

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"math"
	"strconv"
	"strings"
)

var errMoreThanOneValue = errors.New("more than one JSON value")

// json writes the value that is in text; where that is no JSON it is unreadable.
func (e *encoder) json(text []byte) {
	if text == nil {
		e.raw("null")
		return
	}
	if !e.room(len(bytes.TrimSpace(text))) {
		return
	}
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.UseNumber()
	var value any
	err := decoder.Decode(&value)
	if err == nil {
		if _, end := decoder.Token(); end != io.EOF {
			err = errMoreThanOneValue
		}
	}
	if err != nil {
		e.unreadable(err)
		return
	}
	e.value(value)
}

// integerDigits counts the digits of a JSON integer; not valid: it is something else.
func integerDigits(text string) (digits int, valid bool) {
	unsigned := strings.TrimPrefix(text, "-")
	for _, c := range []byte(unsigned) {
		if c < '0' || c > '9' {
			return 0, false
		}
	}
	return len(unsigned), unsigned == "0" || (unsigned != "" && unsigned[0] != '0')
}

// isSendableNumber says whether text is a number of JSON that the daemon takes: a finite double in at most 1,000
// characters with an exponent within ±1,000.
func isSendableNumber(text string) bool {
	if len(text) == 0 || len(text) > maxNumberText || !json.Valid([]byte(text)) {
		return false
	}
	if c := text[0]; c != '-' && (c < '0' || c > '9') {
		return false
	}
	if at := strings.IndexAny(text, "eE"); at >= 0 {
		exponent, err := strconv.Atoi(text[at+1:])
		if err != nil || exponent > maxExponent || exponent < -maxExponent {
			return false
		}
	}
	value, err := strconv.ParseFloat(text, 64)
	return err == nil && !math.IsInf(value, 0)
}
