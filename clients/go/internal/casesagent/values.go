package main

// Values of Go from their descriptions in JSON.

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math"
	"math/big"
	"strings"

	"runrecorder"
)

// raises cannot be read.
type raises struct{}

func (raises) MarshalJSON() ([]byte, error) { panic("raised by MarshalJSON") }
func (raises) Error() string                { panic("raised by Error") }
func (raises) String() string               { panic("raised by String") }

type object struct {
	Name string `json:"name"`
}

// unknownKind is a kind that this language does not have.
type unknownKind struct{ answer answer }

// fieldsOf and valueOf return an answer where a value cannot be made here.
func fieldsOf(text json.RawMessage) (fields runrecorder.Fields, skipped answer) {
	value, skipped := valueOf(text)
	members, _ := value.(map[string]any)
	return members, skipped
}

func valueOf(text json.RawMessage) (value any, skipped answer) {
	defer func() {
		if unknown, ok := recover().(unknownKind); ok {
			skipped = unknown.answer
		}
	}()
	var described any
	if len(text) > 0 {
		if err := decode(text, &described); err != nil {
			return nil, answer{"skipped": err.Error()}
		}
	}
	return made(described), nil
}

// textOf is a name, which may be described too.
func textOf(text json.RawMessage) string {
	value, _ := valueOf(text)
	name, _ := value.(string)
	return name
}

func made(described any) any {
	switch v := described.(type) {
	case json.Number:
		if integer, err := v.Int64(); err == nil {
			return integer
		}
		number, _ := v.Float64()
		return number
	case []any:
		for i := range v {
			v[i] = made(v[i])
		}
	case map[string]any:
		if kind, ok := v["$"].(string); ok {
			return special(kind, v)
		}
		for key := range v {
			v[key] = made(v[key])
		}
	}
	return described
}

func special(kind string, v map[string]any) any {
	switch kind {
	case "bytes":
		text, _ := hex.DecodeString(fmt.Sprint(v["hex"]))
		return string(text)
	case "surrogate":
		return "a\xed\xa0\x80b"
	case "nan":
		return math.NaN()
	case "infinity":
		return math.Inf(1)
	case "-infinity":
		return math.Inf(-1)
	case "integer":
		integer, _ := new(big.Int).SetString(fmt.Sprint(v["text"]), 10)
		return integer
	case "cycle":
		cycle := map[string]any{"n": 1}
		cycle["self"] = cycle
		return cycle
	case "text":
		return strings.Repeat("x", number(v["bytes"]))
	case "deep":
		deep := []any{}
		for i := 1; i < number(v["levels"]); i++ {
			deep = []any{deep}
		}
		return deep
	case "raises":
		return raises{}
	case "keys":
		return map[any]any{1: "integer", "1": "text"}
	case "object":
		return object{Name: "x"}
	case "wide":
		wide := make([]any, number(v["count"]))
		for i := range wide {
			wide[i] = strings.Repeat("x", 100)
		}
		return wide
	}
	panic(unknownKind{answer{"skipped": "no such kind: " + kind}})
}

func number(value any) int {
	text, _ := value.(json.Number)
	integer, _ := text.Int64()
	return int(integer)
}
