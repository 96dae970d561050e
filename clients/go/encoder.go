package runrecorder

// Any value of Go as JSON that the daemon takes ("Values" in clients/README.md): texts are cleaned, cycles closed, depth
// and length bounded, and what panics when it is read is named instead. One encoder makes one line, in one goroutine.

import (
	"encoding/json"
	"fmt"
	"math"
	"reflect"
	"strconv"
	"time"
)

const (
	maxDepth         = 60   // of arrays and objects in one field
	maxPointers      = 1000 // one behind the other
	maxObjectText    = 1000 // characters of the text of an object
	maxIntegerDigits = 300
	maxNumberText    = 1000
	maxExponent      = 1000
	cycleText        = "[cycle]"
	tooDeepText      = "[too deep]"
)

type encoder struct {
	buf   []byte
	limit int  // bytes of buf
	full  bool // the limit is passed: what buf holds is worth nothing
	depth int  // of arrays and objects that are open
	open  []reference
}

// reference is a pointer, map or slice that is being written: met again inside of itself it is a cycle.
type reference struct {
	pointer uintptr
	length  int
	kind    reflect.Kind
}

func (e *encoder) reset(limit int) {
	e.buf, e.limit, e.full, e.depth, e.open = e.buf[:0], limit, false, 0, e.open[:0]
}

// room says whether at least so many bytes more can be written; what cannot makes the whole line too large.
func (e *encoder) room(bytes int) bool {
	if e.full || bytes > e.limit-len(e.buf) {
		e.full = true
	}
	return !e.full
}

// goBack takes back what made the line too large, between two fields.
func (e *encoder) goBack(mark int) {
	e.buf, e.full, e.depth, e.open = e.buf[:mark], false, 0, e.open[:0]
}

func (e *encoder) raw(text string) {
	if e.room(len(text)) {
		e.buf = append(e.buf, text...)
	}
}

func (e *encoder) text(text string) {
	if e.room(len(text) + 2) {
		e.buf = appendString(e.buf, text)
		e.room(0)
	}
}

func (e *encoder) objectText(text string) { e.text(cutCharacters(text, maxObjectText)) }

// value writes anything. The common types are handled here, the rest by reflection.
func (e *encoder) value(value any) {
	switch v := value.(type) {
	case nil:
		e.raw("null")
	case string:
		e.text(v)
	case bool:
		e.raw(strconv.FormatBool(v))
	case int:
		e.integer(int64(v))
	case int64:
		e.integer(v)
	case float64:
		e.float(v, 64)
	case map[string]any:
		e.object(v)
	case Fields:
		e.object(v)
	case []any:
		e.array(v)
	case time.Time:
		e.text(v.Format(time.RFC3339Nano))
	case json.Number:
		e.number(string(v))
	case json.RawMessage:
		e.json(v)
	default:
		e.reflected(reflect.ValueOf(value))
	}
}

func (e *encoder) integer(value int64) {
	if e.room(20) {
		e.buf = strconv.AppendInt(e.buf, value, 10)
	}
}

func (e *encoder) unsigned(value uint64) {
	if e.room(20) {
		e.buf = strconv.AppendUint(e.buf, value, 10)
	}
}

// float writes the shortest number that is read as the same.
func (e *encoder) float(value float64, bits int) {
	switch {
	case math.IsNaN(value):
		e.raw(`"NaN"`)
	case math.IsInf(value, 1):
		e.raw(`"Infinity"`)
	case math.IsInf(value, -1):
		e.raw(`"-Infinity"`)
	case e.room(32):
		format := byte('f')
		if size := math.Abs(value); size != 0 && (size < 1e-6 || size >= 1e21) {
			format = 'e'
		}
		e.buf = strconv.AppendFloat(e.buf, value, format, -1, bits)
	}
}

// number writes a number that is a text in Go, exactly; as a text where the daemon would refuse it.
func (e *encoder) number(text string) {
	switch digits, valid := integerDigits(text); {
	case valid && digits <= maxIntegerDigits:
		e.raw(text)
	case valid:
		e.text(text[:len(text)-digits+maxIntegerDigits])
	case isSendableNumber(text):
		e.raw(text)
	default:
		e.objectText(text)
	}
}

func (e *encoder) array(values []any) {
	if values == nil {
		e.raw("null")
		return
	}
	reference := reference{reflect.ValueOf(values).Pointer(), len(values), reflect.Slice}
	if !e.enter(reference, 2*len(values)+1) {
		return
	}
	e.raw("[")
	for i, value := range values {
		if i > 0 {
			e.raw(",")
		}
		if e.full {
			break
		}
		e.value(value)
	}
	e.raw("]")
	e.leave()
}

// object writes a map with its keys in order.
func (e *encoder) object(values map[string]any) {
	if values == nil {
		e.raw("null")
		return
	}
	if !e.enter(reference{reflect.ValueOf(values).Pointer(), 0, reflect.Map}, 4*len(values)+1) {
		return
	}
	var few [16]member
	members := few[:0]
	for key, value := range values {
		if !e.room(len(key)) {
			break
		}
		members = append(members, member{key: cleanText(key), value: value})
	}
	e.members(members)
	e.leave()
}

// enter opens an array or object of at least so many bytes; false where something else was written in its place.
func (e *encoder) enter(inner reference, bytes int) bool {
	if !e.room(bytes) {
		return false
	}
	if e.depth >= maxDepth {
		e.raw(`"` + tooDeepText + `"`)
		return false
	}
	if e.isOpen(inner) {
		e.raw(`"` + cycleText + `"`)
		return false
	}
	e.depth++
	e.open = append(e.open, inner)
	return true
}

func (e *encoder) leave() {
	e.depth--
	e.open = e.open[:len(e.open)-1]
}

func (e *encoder) isOpen(inner reference) bool {
	if inner.pointer == 0 || (inner.kind == reflect.Slice && inner.length == 0) {
		return false
	}
	for _, outer := range e.open {
		if outer == inner {
			return true
		}
	}
	return false
}

// guarded calls code of the caller's, as a MarshalJSON; where it panics or returns an error the value becomes
// "[unreadable: TYPE]" with the type of what was raised.
func (e *encoder) guarded(read func() error) (ok bool) {
	defer func() {
		if raised := recover(); raised != nil {
			e.unreadable(raised)
			ok = false
		}
	}()
	if err := read(); err != nil {
		e.unreadable(err)
		return false
	}
	return true
}

func (e *encoder) unreadable(raised any) {
	e.objectText(fmt.Sprintf("[unreadable: %s]", typeName(raised)))
}
