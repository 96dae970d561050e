package runrecorder

// The members of objects: in the order of their keys, each key once.

import (
	"reflect"
	"sort"
)

// member is one key, cleaned, and its value: as an any, or by reflection where it is valid.
type member struct {
	key       string
	value     any
	reflected reflect.Value
}

const fewMembers = 12 // up to here an insertion sort, which needs no memory, is the fastest

// members writes an object. Of keys that are the same the later one counts.
func (e *encoder) members(members []member) {
	sortMembers(members)
	e.raw("{")
	first := true
	for i, one := range members {
		if e.full {
			return
		}
		if i+1 < len(members) && members[i+1].key == one.key {
			continue
		}
		if !first {
			e.raw(",")
		}
		first = false
		e.text(one.key)
		e.raw(":")
		if one.reflected.IsValid() {
			e.reflected(one.reflected)
		} else {
			e.value(one.value)
		}
	}
	e.raw("}")
}

func sortMembers(members []member) {
	if len(members) > fewMembers {
		sort.SliceStable(members, func(i, j int) bool { return members[i].key < members[j].key })
		return
	}
	for i := 1; i < len(members); i++ {
		for j := i; j > 0 && members[j].key < members[j-1].key; j-- {
			members[j], members[j-1] = members[j-1], members[j]
		}
	}
}
