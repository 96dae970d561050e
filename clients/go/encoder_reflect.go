package runrecorder

// Values of types that the encoder does not know by name.

import (
	"encoding"
	"encoding/json"
	"fmt"
	"reflect"
	"strconv"
	"time"
)

// reflected writes a value by its methods where it has some for that, else by its kind.
func (e *encoder) reflected(v reflect.Value) {
	if e.full {
		return
	}
	if !v.IsValid() || (canBeNil(v.Kind()) && v.IsNil()) {
		e.raw("null")
		return
	}
	if !e.byMethod(v, knownType(v.Type())) {
		e.byKind(v)
	}
}

func (e *encoder) byKind(v reflect.Value) {
	switch v.Kind() {
	case reflect.Bool:
		e.raw(strconv.FormatBool(v.Bool()))
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		e.integer(v.Int())
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64, reflect.Uintptr:
		e.unsigned(v.Uint())
	case reflect.Float32, reflect.Float64:
		e.float(v.Float(), v.Type().Bits())
	case reflect.String:
		e.text(v.String())
	case reflect.Interface:
		e.reflected(v.Elem())
	case reflect.Pointer:
		e.behind(v)
	case reflect.Map:
		e.reflectedMap(v)
	case reflect.Slice, reflect.Array:
		e.reflectedList(v)
	case reflect.Struct:
		e.reflectedStruct(v)
	case reflect.Complex64, reflect.Complex128:
		e.text(strconv.FormatComplex(v.Complex(), 'g', -1, v.Type().Bits()))
	default: // channels, functions and the like: what they are
		e.objectText("[" + v.Type().String() + "]")
	}
}

// byMethod uses, in this order, MarshalJSON, MarshalText and, of errors, Error.
func (e *encoder) byMethod(v reflect.Value, known *typeInfo) bool {
	if known.method == noMethod || !v.CanInterface() {
		return false
	}
	if known.onPointer && v.CanAddr() {
		v = v.Addr()
	} else if known.onPointer {
		copied := reflect.New(v.Type())
		copied.Elem().Set(v)
		v = copied
	}
	if known.method == marshalsJSON {
		e.marshaledJSON(v.Interface())
	} else {
		e.marshaledText(v.Interface())
	}
	return true
}

func (e *encoder) marshaledJSON(value any) {
	var text []byte
	read := func() (err error) {
		switch v := value.(type) { // a time that MarshalJSON refuses has a text too
		case time.Time:
			text = appendString(nil, v.Format(time.RFC3339Nano))
		case *time.Time:
			text = appendString(nil, v.Format(time.RFC3339Nano))
		case json.Marshaler:
			text, err = v.MarshalJSON()
		}
		return err
	}
	if e.guarded(read) {
		e.json(text)
	}
}

func (e *encoder) marshaledText(value any) {
	var text string
	limited := false
	read := func() error {
		switch v := value.(type) {
		case encoding.TextMarshaler:
			bytes, err := v.MarshalText()
			text = string(bytes)
			return err
		case error:
			text, limited = v.Error(), true
		case fmt.Stringer:
			text, limited = v.String(), true
		}
		return nil
	}
	switch {
	case !e.guarded(read):
	case limited:
		e.objectText(text)
	default:
		e.text(text)
	}
}

// behind writes what a pointer points to.
func (e *encoder) behind(v reflect.Value) {
	inner := reference{v.Pointer(), 0, reflect.Pointer}
	switch {
	case len(e.open) >= maxPointers:
		e.raw(`"` + tooDeepText + `"`)
	case e.isOpen(inner):
		e.raw(`"` + cycleText + `"`)
	default:
		e.open = append(e.open, inner)
		e.reflected(v.Elem())
		e.open = e.open[:len(e.open)-1]
	}
}

func (e *encoder) reflectedList(v reflect.Value) {
	if v.Type().Elem().Kind() == reflect.Uint8 && v.Kind() == reflect.Slice {
		if e.room(v.Len()) { // before it is copied
			e.text(string(v.Bytes()))
		}
		return
	}
	inner := reference{kind: reflect.Array}
	if v.Kind() == reflect.Slice {
		inner = reference{v.Pointer(), v.Len(), reflect.Slice}
	}
	if !e.enter(inner, 2*v.Len()+1) {
		return
	}
	e.raw("[")
	for i := 0; i < v.Len() && !e.full; i++ {
		if i > 0 {
			e.raw(",")
		}
		e.reflected(v.Index(i))
	}
	e.raw("]")
	e.leave()
}

func (e *encoder) reflectedMap(v reflect.Value) {
	if !e.enter(reference{v.Pointer(), 0, reflect.Map}, 4*v.Len()+1) {
		return
	}
	members := make([]member, 0, v.Len())
	for entries := v.MapRange(); entries.Next(); {
		members = append(members, member{key: keyText(entries.Key()), reflected: orNull(entries.Value())})
	}
	e.members(members)
	e.leave()
}

func (e *encoder) reflectedStruct(v reflect.Value) {
	known := knownType(v.Type())
	if !e.enter(reference{kind: reflect.Struct}, 2) {
		return
	}
	e.raw("{")
	first := true
	for i := range known.fields {
		field := &known.fields[i]
		inner, there := field.in(v)
		if !there {
			continue
		}
		if !first {
			e.raw(",")
		}
		first = false
		e.raw(field.quotedName)
		e.raw(":")
		e.reflected(inner)
	}
	e.raw("}")
	e.leave()
}

func canBeNil(kind reflect.Kind) bool {
	switch kind {
	case reflect.Pointer, reflect.Interface, reflect.Map, reflect.Slice, reflect.Func, reflect.Chan,
		reflect.UnsafePointer:
		return true
	}
	return false
}

// orNull keeps a nil interface apart from a member that has no value by reflection.
func orNull(v reflect.Value) reflect.Value {
	if v.Kind() == reflect.Interface && v.IsNil() {
		return reflect.ValueOf((*int)(nil))
	}
	return v
}

// keyText is a map's key as a text. What panics gives its type.
func keyText(key reflect.Value) (text string) {
	defer func() {
		if raised := recover(); raised != nil {
			text = "[unreadable: " + typeName(raised) + "]"
		}
	}()
	for key.Kind() == reflect.Interface && !key.IsNil() {
		key = key.Elem()
	}
	if key.Kind() == reflect.String {
		return cleanText(key.String())
	}
	if marshaler, ok := key.Interface().(encoding.TextMarshaler); ok {
		bytes, err := marshaler.MarshalText()
		if err != nil {
			return "[unreadable: " + typeName(err) + "]"
		}
		return cleanText(string(bytes))
	}
	switch key.Kind() {
	case reflect.Pointer, reflect.Chan, reflect.UnsafePointer:
		return fmt.Sprintf("[%s]", key.Type())
	}
	return cutCharacters(fmt.Sprint(key.Interface()), maxObjectText)
}
