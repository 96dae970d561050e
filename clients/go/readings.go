package runrecorder

// Values read as what a field has to be: a text, or an object. What panics gives its type. Pure.

import (
	"bytes"
	"encoding/json"
	"fmt"
)

// textOf is the text of a value that should be one: empty for null, cut to about so many characters where it is
// something else than a text.
func textOf(value any, limit int) string {
	switch v := value.(type) {
	case nil:
		return ""
	case string:
		return v
	case fmt.Stringer, error:
		return briefText(v, limit)
	}
	e := encoder{limit: 4*limit + 64}
	e.value(value)
	if e.full {
		return "[" + typeName(value) + "]"
	}
	var text string
	if json.Unmarshal(e.buf, &text) == nil {
		return text
	}
	return string(e.buf)
}

// briefText is a text for people of any value, of at most so many characters. What panics gives its type.
func briefText(value any, limit int) (text string) {
	defer func() {
		if raised := recover(); raised != nil {
			text = fmt.Sprintf("[unreadable: %s]", typeName(raised))
		}
	}()
	switch v := value.(type) {
	case string:
		text = v
	case error:
		text = v.Error()
	case fmt.Stringer:
		text = v.String()
	default:
		text = textOf(value, limit)
	}
	return cutCharacters(text, limit)
}

// objectOf is the members of a map or struct, by way of JSON where it is none that is known.
func objectOf(value any, limit int) (Fields, bool) {
	switch v := value.(type) {
	case nil:
		return nil, false
	case Fields:
		return v, true
	case map[string]any:
		return v, true
	case Usage:
		members := make(Fields, len(v))
		for key, number := range v {
			members[key] = number
		}
		return members, true
	}
	e := encoder{limit: limit}
	e.value(value)
	if e.full {
		return nil, false
	}
	return decodeObject(e.buf)
}

// decodeObject reads an object of JSON with its numbers as they are.
func decodeObject(text []byte) (Fields, bool) {
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.UseNumber()
	var members map[string]any
	if decoder.Decode(&members) != nil || members == nil {
		return nil, false
	}
	return members, true
}
