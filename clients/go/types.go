package runrecorder

// What is known of a type: which method gives its JSON, and the fields of a struct under the names of encoding/json.
// Worked out once a type; thread-safe.

import (
	"encoding"
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"sync"
)

type method int

const (
	noMethod method = iota
	marshalsJSON
	hasText
)

type typeInfo struct {
	method    method
	onPointer bool // the method is the pointer's
	fields    []structField
}

type structField struct {
	quotedName string
	index      []int
	omitEmpty  bool
	omitZero   bool
}

var (
	typeInfos     sync.Map // reflect.Type to *typeInfo
	jsonMarshaler = reflect.TypeOf((*json.Marshaler)(nil)).Elem()
	textMarshaler = reflect.TypeOf((*encoding.TextMarshaler)(nil)).Elem()
	errorType     = reflect.TypeOf((*error)(nil)).Elem()
	stringer      = reflect.TypeOf((*fmt.Stringer)(nil)).Elem()
)

func knownType(t reflect.Type) *typeInfo {
	if known, ok := typeInfos.Load(t); ok {
		return known.(*typeInfo)
	}
	known := &typeInfo{}
	if t.Kind() == reflect.Struct {
		known.fields = fieldsOf(t)
	}
	if t.Kind() != reflect.Interface {
		known.method, known.onPointer = methodOf(t, len(known.fields) == 0)
	}
	typeInfos.Store(t, known)
	return known
}

// methodOf looks at the type and at its pointer, which has the methods of values that cannot be addressed too. A
// String is used only where there is no field to show.
func methodOf(t reflect.Type, withoutFields bool) (found method, onPointer bool) {
	pointer := reflect.PointerTo(t)
	isStruct := t.Kind() == reflect.Struct
	for _, one := range []struct {
		wanted reflect.Type
		method method
		useful bool
	}{
		{jsonMarshaler, marshalsJSON, true},
		{textMarshaler, hasText, true},
		{errorType, hasText, true},
		{stringer, hasText, isStruct && withoutFields},
	} {
		switch {
		case !one.useful:
		case t.Implements(one.wanted):
			return one.method, false
		case isStruct && pointer.Implements(one.wanted):
			return one.method, true
		}
	}
	return noMethod, false
}

// fieldsOf lists exported fields and those of embedded structs; of equal names the outermost, then the first counts.
func fieldsOf(t reflect.Type) []structField {
	var fields []structField
	seen := map[string]bool{}
	visited := map[reflect.Type]bool{t: true}
	type level struct {
		t     reflect.Type
		index []int
	}
	for queue := []level{{t: t}}; len(queue) > 0; queue = queue[1:] {
		outer := queue[0]
		for i := 0; i < outer.t.NumField(); i++ {
			field := outer.t.Field(i)
			index := append(append([]int(nil), outer.index...), i)
			name, options, _ := strings.Cut(field.Tag.Get("json"), ",")
			if name == "-" && options == "" {
				continue
			}
			if inner := embeddedStruct(field); inner != nil && name == "" {
				if !visited[inner] {
					visited[inner] = true
					queue = append(queue, level{inner, index})
				}
				continue
			}
			if name == "" {
				name = field.Name
			}
			if field.IsExported() && !seen[name] {
				seen[name] = true
				fields = append(fields, newStructField(name, options, index))
			}
		}
	}
	return fields
}

func newStructField(name, options string, index []int) structField {
	field := structField{quotedName: string(appendString(nil, name)), index: index}
	for _, option := range strings.Split(options, ",") {
		field.omitEmpty = field.omitEmpty || option == "omitempty"
		field.omitZero = field.omitZero || option == "omitzero"
	}
	return field
}

func embeddedStruct(field reflect.StructField) reflect.Type {
	t := field.Type
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if !field.Anonymous || t.Kind() != reflect.Struct {
		return nil
	}
	return t
}

// in finds the field's value; not there: behind an embedded pointer that is nil, or left out by its tag.
func (f *structField) in(v reflect.Value) (reflect.Value, bool) {
	for _, i := range f.index {
		if v.Kind() == reflect.Pointer {
			if v.IsNil() {
				return v, false
			}
			v = v.Elem()
		}
		v = v.Field(i)
	}
	return v, !(f.omitEmpty && isEmpty(v)) && !(f.omitZero && v.IsZero())
}

func isEmpty(v reflect.Value) bool {
	switch v.Kind() {
	case reflect.Array, reflect.Map, reflect.Slice, reflect.String:
		return v.Len() == 0
	case reflect.Struct:
		return false
	}
	return v.IsZero()
}

// typeName names what was raised, without the star of a pointer.
func typeName(value any) string {
	return strings.TrimPrefix(fmt.Sprintf("%T", value), "*")
}
