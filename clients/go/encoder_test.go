package runrecorder

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"math/big"
	"math/rand"
	"net"
	"reflect"
	"strings"
	"testing"
	"time"
)

func encoded(value any) string {
	e := encoder{limit: 1 << 20}
	e.value(value)
	return string(e.buf)
}

type raises struct{ Name string }

func (raises) MarshalJSON() ([]byte, error) { panic(errors.New("no")) }

type raisesText struct{}

func (*raisesText) MarshalText() ([]byte, error) { panic("no") }

type raisesError struct{}

func (raisesError) Error() string { panic(raisesError{}) }

type failsToMarshal struct{}

func (failsToMarshal) MarshalJSON() ([]byte, error) { return nil, &fs.PathError{} }

type marshalsTo string

func (m marshalsTo) MarshalJSON() ([]byte, error) { return []byte(m), nil }

type inner struct {
	Shared int
	Own    string `json:"own"`
}

type tagged struct {
	Renamed  string `json:"other"`
	Skipped  string `json:"-"`
	Empty    string `json:",omitempty"`
	Pointer  *int   `json:"pointer,omitempty"`
	hidden   string
	Shared   bool
	Function func() `json:",omitempty"`
	inner
	*node
}

type node struct {
	Name string
	Next *node `json:",omitempty"`
}

type secret struct{ text string }

func (s *secret) String() string { return "a secret of " + s.text }

type level string

type selfPointer *selfPointer

func TestValuesBecomeWhatUsersExpect(t *testing.T) {
	seven := 7
	when := time.Date(2026, 12, 1, 10, 0, 0, 5000, time.UTC)
	huge, _ := new(big.Int).SetString("1"+strings.Repeat("0", 250), 10)
	cases := []struct {
		value any
		want  string
	}{
		{nil, `null`}, {true, `true`}, {int8(-3), `-3`}, {uint64(math.MaxUint64), `18446744073709551615`},
		{0.1, `0.1`}, {float32(0.1), `0.1`}, {1e21, `1e+21`}, {1e-7, `1e-07`}, {3.0, `3`},
		{math.NaN(), `"NaN"`}, {math.Inf(1), `"Infinity"`}, {float32(math.Inf(-1)), `"-Infinity"`},
		{complex(1, 2), `"(1+2i)"`}, {make(chan int), `"[chan int]"`}, {func() {}, `"[func()]"`}, {(chan int)(nil), `null`},
		{"a\x00b\xffc\ud7ff\"\\\n\u2028\x01", "\"a\uFFFDb\uFFFDc\ud7ff\\\"\\\\\\n\u2028\\u0001\""},
		{[]byte("text\xff"), "\"text\uFFFD\""}, {[3]byte{1, 2, 3}, `[1,2,3]`}, {[]string{"a"}, `["a"]`}, {[]string(nil), `null`},
		{level("high"), `"high"`}, {map[level]int{"b": 1, "a": 2}, `{"a":2,"b":1}`}, {map[int]bool{10: true, 9: false}, `{"10":true,"9":false}`},
		{map[float64]int{0.5: 1}, `{"0.5":1}`}, {map[any]any{nil: 1}, `{"<nil>":1}`}, {map[time.Time]int{when: 1}, `{"2026-12-01T10:00:00.000005Z":1}`},
		{map[string]any{"n": (*int)(nil), "e": error(nil)}, `{"e":null,"n":null}`}, {map[string]error{"e": nil}, `{"e":null}`},
		{when, `"2026-12-01T10:00:00.000005Z"`}, {&when, `"2026-12-01T10:00:00.000005Z"`}, {time.Date(12026, 1, 1, 0, 0, 0, 0, time.UTC), `"12026-01-01T00:00:00Z"`},
		{[]time.Time{time.Date(12026, 1, 1, 0, 0, 0, 0, time.UTC)}, `["12026-01-01T00:00:00Z"]`},
		{time.Second, `1000000000`}, {net.IPv4(127, 0, 0, 1), `"127.0.0.1"`}, {errors.New("broken"), `"broken"`},
		{huge, huge.String()}, {*huge, huge.String()}, {new(big.Int).Exp(huge, big.NewInt(2), nil), `"1` + strings.Repeat("0", 299) + `"`},
		{new(big.Int).Neg(new(big.Int).Exp(huge, big.NewInt(2), nil)), `"-1` + strings.Repeat("0", 299) + `"`},
		{json.Number("1.50"), `1.50`}, {json.Number("9e308"), `"9e308"`}, {json.Number("1e-2000"), `"1e-2000"`}, {json.Number("x"), `"x"`}, {json.Number("007"), `"007"`},
		{json.Number("true"), `"true"`}, {json.Number(""), `""`}, {json.Number("-"), `"-"`},
		{json.RawMessage(`{"b":1,"a":"\ud800\u0000","b":2}`), "{\"a\":\"\uFFFD\uFFFD\",\"b\":2}"}, {json.RawMessage(`{`), `"[unreadable: errors.errorString]"`},
		{json.RawMessage(`1 2`), `"[unreadable: errors.errorString]"`}, {json.RawMessage(nil), `null`},
		{marshalsTo(`[9e308, 1]`), `["9e308",1]`}, {marshalsTo(`nonsense`), `"[unreadable: json.SyntaxError]"`},
		{failsToMarshal{}, `"[unreadable: fs.PathError]"`}, {raises{}, `"[unreadable: errors.errorString]"`}, {(*raises)(nil), `null`},
		{[]any{raises{}, 1}, `["[unreadable: errors.errorString]",1]`}, {raisesText{}, `"[unreadable: string]"`}, {raisesError{}, `"[unreadable: runrecorder.raisesError]"`},
		{&seven, `7`}, {struct{}{}, `{}`}, {secret{"x"}, `"a secret of x"`}, {[]secret{{"y"}}, `["a secret of y"]`}, {map[string]secret{"z": {"z"}}, `{"z":"a secret of z"}`},
		{tagged{Renamed: "r", hidden: "h", inner: inner{Shared: 1, Own: "o"}}, `{"other":"r","Shared":false,"own":"o"}`},
		{Fields{"b": []any{1, "x", nil}, "a": Fields(nil)}, `{"a":null,"b":[1,"x",null]}`},
		{reflect.ValueOf(1), `"\u003cint Value\u003e"`},
	}
	for _, one := range cases {
		got := encoded(one.value)
		want := strings.NewReplacer(`\u003c`, "<", `\u003e`, ">").Replace(one.want)
		if got != want && !strings.HasPrefix(want, `"<`) {
			t.Errorf("%T %v\n got %s\nwant %s", one.value, one.value, got, want)
		}
		if !json.Valid([]byte(got)) {
			t.Errorf("%T: not JSON: %s", one.value, got)
		}
	}
}

func TestKeysThatBecomeTheSameAreOne(t *testing.T) {
	for _, value := range []any{map[any]any{1: "a", "1": "b"}, map[string]any{"a\x00": 1, "a\xff": 2}, map[[1]int]int{{1}: 1}} {
		got := encoded(value)
		if strings.Count(got, ":") != 1 || !json.Valid([]byte(got)) {
			t.Errorf("%v became %s", value, got)
		}
	}
}

func TestCyclesAreClosed(t *testing.T) {
	loop := &node{Name: "a"}
	loop.Next = &node{Name: "b", Next: loop}
	list := []any{1, nil}
	list[1] = list
	var pointer selfPointer
	pointer = selfPointer(&pointer)
	typed := map[string]map[string]any{"x": {}}
	typed["x"]["again"] = typed
	for _, one := range []struct {
		value any
		want  string
	}{
		{loop, `{"Name":"a","Next":{"Name":"b","Next":"[cycle]"}}`},
		{list, `[1,"[cycle]"]`},
		{pointer, `"[cycle]"`},
		{typed, `{"x":{"again":"[cycle]"}}`},
		{[]any{map[string]any{}, map[string]any{}}, `[{},{}]`},
	} {
		if got := encoded(one.value); got != one.want {
			t.Errorf("got %s want %s", got, one.want)
		}
	}
	shared := &node{Name: "s"}
	if got := encoded([]any{shared, shared}); strings.Contains(got, cycleText) {
		t.Errorf("what is there twice is no cycle: %s", got)
	}
}

func TestDepthIsBounded(t *testing.T) {
	deep := func(levels int) (value any) {
		value = []any{}
		for i := 1; i < levels; i++ {
			value = map[string]any{"in": value}
		}
		return value
	}
	var chain *node
	for i := 0; i < 2000; i++ {
		chain = &node{Next: chain}
	}
	if got := encoded(deep(maxDepth)); strings.Contains(got, tooDeepText) {
		t.Errorf("%d levels are fine", maxDepth)
	}
	for _, value := range []any{deep(maxDepth + 1), deep(100_000), chain, json.RawMessage(strings.Repeat("[", 100) + strings.Repeat("]", 100))} {
		if got := encoded(value); !strings.Contains(got, tooDeepText) || !json.Valid([]byte(got)) {
			t.Errorf("%T is not cut: %.200s", value, got)
		}
	}
}

func TestWhatIsFarTooLargeIsGivenUpAtOnce(t *testing.T) {
	calls := 0
	many := make([]any, 100_000)
	for i := range many {
		many[i] = countsCalls{&calls}
	}
	huge := strings.Repeat("x", 64<<20)
	for _, value := range []any{huge, []byte(huge), []any{huge}, map[string]any{huge: 1}, many, make([]struct{}, 50_000_000), [1 << 20]int8{}} {
		e := encoder{limit: 1 << 20}
		e.value(value)
		if !e.full || cap(e.buf) > 4<<20 {
			t.Errorf("%T: full %v, %d bytes", value, e.full, cap(e.buf))
		}
	}
	if calls > 20_000 {
		t.Errorf("%d elements were read", calls)
	}
}

type countsCalls struct{ calls *int }

func (c countsCalls) MarshalJSON() ([]byte, error) {
	*c.calls++
	return []byte(`"` + strings.Repeat("x", 100) + `"`), nil
}

func TestAnyTextIsValidAndReadAsItWasCleaned(t *testing.T) {
	random := rand.New(rand.NewSource(1))
	for i := 0; i < 20_000; i++ {
		text := make([]byte, random.Intn(12))
		for j := range text {
			text[j] = []byte("a\x00\x1f\"\\\x7f\x80\xc3\xa9\xed\xa0\xe2\x80\xa8\xf0\x9f\x9a\x80\xff")[random.Intn(19)]
		}
		var back string
		if err := json.Unmarshal(appendString(nil, string(text)), &back); err != nil || back != cleanText(string(text)) {
			t.Fatalf("%q: %v %q", text, err, back)
		}
		if cut := cutBytes(string(text), 5); len(cut) > 5 || !strings.HasPrefix(cleanText(string(text)), cut) {
			t.Fatalf("%q is cut to %q", text, cut)
		}
	}
}

func TestStructsAgreeWithEncodingJSON(t *testing.T) {
	value := struct {
		A int `json:"a"`
		B []map[string]float64
		C struct {
			D *bool
			E any `json:"e,omitempty"`
		}
		inner
	}{A: 1, B: []map[string]float64{{"x": 1.5}}, inner: inner{2, "o"}}
	want, _ := json.Marshal(value)
	if got := encoded(value); got != string(want) {
		t.Errorf("got %s want %s", got, want)
	}
}

func BenchmarkEvent(b *testing.B) {
	maker := newEventMaker(defaultMaxEventBytes)
	b.ReportAllocs()
	for i := 0; i < b.N; i++ {
		made := maker.make("run-1", "step", Fields{"payload": map[string]any{"n": i, "text": fmt.Sprint("row ", i)}})
		if made.line == nil {
			b.Fatal(made.problem)
		}
	}
}
