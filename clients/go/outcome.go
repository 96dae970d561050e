package runrecorder

// How work ended, as the daemon has it. Pure.

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"reflect"
)

const maxStackBytes = 8 << 10

// outcomeFields is the error of work that returned one.
func outcomeFields(ctx context.Context, err error) Fields {
	fields := errorFields(err)
	switch {
	case isCancelled(ctx, err):
		fields["kind"] = "cancelled"
	case is(err, context.DeadlineExceeded):
		fields["kind"] = "timeout"
	}
	return fields
}

func isCancelled(ctx context.Context, err error) bool {
	return ctx != nil && ctx.Err() != nil && is(err, context.Canceled)
}

// is is errors.Is for errors whose methods may panic, or whose chain has no end.
func is(err, target error) (found bool) {
	defer func() { _ = recover() }()
	return ends(err) && errors.Is(err, target)
}

// ends tells a chain of errors from one that goes on for ever, as of an error that unwraps to itself.
func ends(err error) bool {
	for depth := 0; err != nil; depth++ {
		if depth == maxPointers {
			return false
		}
		err = errors.Unwrap(err)
	}
	return true
}

// errorKind is the type of the first error of the chain that is more than a text: "error" where none is.
func errorKind(err error) (kind string) {
	defer func() {
		if raised := recover(); raised != nil {
			kind = "error"
		}
	}()
	for depth := 0; err != nil && depth < maxPointers; depth++ {
		t := reflect.TypeOf(err)
		if t.Kind() == reflect.Pointer {
			t = t.Elem()
		}
		if path := t.PkgPath(); path != "errors" && path != "fmt" {
			return typeName(err)
		}
		err = errors.Unwrap(err)
	}
	return "error"
}

// panicFields has the value's text and the stack from where it was raised.
func panicFields(raised any, stack []byte) Fields {
	fields := Fields{"kind": "panic", "message": panicText(raised), "stacktrace": innermost(stack)}
	if _, isError := raised.(error); isError || raised != nil && reflect.TypeOf(raised).Kind() != reflect.String {
		fields["type"] = typeName(raised)
	}
	return fields
}

func panicText(raised any) string {
	switch raised.(type) {
	case string, error, fmt.Stringer:
		return briefText(raised, maxErrorMessage)
	}
	return briefText(raised, maxObjectText)
}

// innermost leaves out the frames of the recording itself, and cuts what is far away from where it was raised.
func innermost(stack []byte) string {
	if at := bytes.Index(stack, []byte("\npanic(")); at >= 0 {
		stack = stack[at+1:]
		for i := 0; i < 2; i++ { // panic( and its file
			if end := bytes.IndexByte(stack, '\n'); end >= 0 {
				stack = stack[end+1:]
			}
		}
	}
	if len(stack) > maxStackBytes {
		stack = stack[:maxStackBytes]
		if end := bytes.LastIndexByte(stack, '\n'); end > 0 {
			stack = stack[:end]
		}
	}
	return string(stack)
}

func goexitFields() Fields {
	return Fields{"kind": "goexit", "message": "the work ended its goroutine (runtime.Goexit) and returned nothing"}
}
