// SPDX-License-Identifier: Apache-2.0

package policy

import "testing"

func TestDecide(t *testing.T) {
	admin, anna, bert := Caller{UID: 0, Admin: true}, Caller{UID: 1000}, Caller{UID: 1001}
	rootWithoutTheMark := Caller{UID: 0}
	annas := Object{Exists: true, OwnerUID: 1000}
	for _, c := range []struct {
		name   string
		caller Caller
		action Action
		object Object
		want   bool
	}{
		{"the admin opens a session", admin, Open, Object{}, true},
		{"a user opens no session", anna, Open, Object{}, false},
		{"uid 0 alone, without the mark, opens no session", rootWithoutTheMark, Open, Object{}, false},
		{"the admin sees everything", admin, See, annas, true},
		{"the admin may ask for what does not exist", admin, See, Object{}, true},
		{"the owner sees its session", anna, See, annas, true},
		{"the owner answers its session's prompts", anna, Answer, annas, true},
		{"the owner closes its session", anna, Manage, annas, true},
		{"another user does not see it", bert, See, annas, false},
		{"another user does not answer it", bert, Answer, annas, false},
		{"another user does not close it", bert, Manage, annas, false},
		{"a session that does not exist belongs to nobody, uid 0 included", rootWithoutTheMark, See, Object{}, false},
		{"a user may register as an agent, for what it may answer", bert, Agent, Object{}, true},
		{"an action that is none is refused", anna, 0, annas, false},
		{"an action of a later version is refused", anna, 99, annas, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := Decide(c.caller, c.action, c.object); got != c.want {
				t.Errorf("Decide(%+v, %d, %+v) = %v, want %v", c.caller, c.action, c.object, got, c.want)
			}
		})
	}
}
