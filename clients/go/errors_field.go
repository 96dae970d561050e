package runrecorder

// The errors of a run that failed: a list of texts and objects, whatever is given. Pure.

import "reflect"

const (
	maxReducedErrors = 10
	maxErrorMessage  = 1 << 20 // characters
)

// errorsField writes the list. Reduced: the first 10, of objects only kind and message, all cut to 1,000 characters.
func (e *encoder) errorsField(value any, reduced bool) {
	if value == nil {
		return
	}
	e.openField("errors")
	e.raw("[")
	count := 0
	eachError(value, func(one any) bool {
		if e.full || (reduced && count == maxReducedErrors) {
			return false
		}
		if count++; count > 1 {
			e.raw(",")
		}
		if reduced {
			e.reducedError(one)
		} else {
			e.oneError(one)
		}
		return true
	})
	e.raw("]")
}

// eachError gives the elements of a list, or the value itself where it is none, until more returns false.
func eachError(value any, more func(any) bool) {
	if list, ok := value.([]any); ok {
		for _, one := range list {
			if !more(one) {
				return
			}
		}
		return
	}
	v := reflect.ValueOf(value)
	isList := v.Kind() == reflect.Slice || v.Kind() == reflect.Array
	if _, isError := value.(error); isError || !isList || v.Type().Elem().Kind() == reflect.Uint8 {
		more(value)
		return
	}
	for i := 0; i < v.Len() && more(v.Index(i).Interface()); i++ {
	}
}

func (e *encoder) oneError(one any) {
	if err, ok := one.(error); ok && one != nil {
		one = errorFields(err)
	}
	begin := len(e.buf)
	e.value(one)
	if e.full || e.buf[begin] == '{' || e.buf[begin] == '"' {
		return
	}
	text := string(e.buf[begin:]) // a number and the like
	e.buf = e.buf[:begin]
	e.text(text)
}

func (e *encoder) reducedError(one any) {
	if text, ok := one.(string); ok {
		e.text(cutCharacters(text, maxMessageOfError))
		return
	}
	members, ok := objectOf(one, e.limit)
	if err, isError := one.(error); isError {
		members, ok = errorFields(err), true
	}
	if !ok {
		e.text(briefText(one, maxMessageOfError))
		return
	}
	reduced := map[string]any{}
	for _, key := range []string{"kind", "message"} {
		if value, given := members[key]; given && value != nil {
			reduced[key] = briefText(value, maxMessageOfError)
		}
	}
	e.object(reduced)
}

// errorFields is an error as the daemon has it.
func errorFields(err error) Fields {
	return Fields{"kind": errorKind(err), "message": briefText(err, maxErrorMessage)}
}
