// SPDX-License-Identifier: Apache-2.0

package conversations

import (
	"encoding/base64"
	"errors"
	"fmt"
	"math"
	"os"
	"strings"
	"testing"

	"github.com/godbus/dbus/v5"

	"github.com/pamprompt/pamprompt/api"
)

type values map[string]dbus.Variant

func one(name string, value any) values { return values{name: dbus.MakeVariant(value)} }

// wantRefused checks the code of an error, and that it says what is wrong.
func wantRefused(t *testing.T, err error, code api.Code, says string) {
	t.Helper()
	var named dbus.Error
	if !errors.As(err, &named) || named.Name != api.ErrorPrefix+string(code) || !strings.Contains(named.Error(), says) || len(named.Error()) > 400 {
		t.Errorf("%v (%s), want %s with %q", err, named.Name, code, says)
	}
}

func TestOptionsThatAreWrong(t *testing.T) {
	b := start(t)
	conn := b.Conn(t)
	const bad, unknown = api.InvalidArgument, api.UnknownOption
	for _, test := range []struct {
		name, service, user string
		options             values
		code                api.Code
		says                string
	}{
		{"no service", "", "anna", nil, bad, "the service is empty"},
		{"a path for a service", "../ftp", "anna", nil, bad, "is not the name of a file"},
		{"capitals in a service", "FTP", "anna", nil, bad, "small letters"},
		{"a long service", strings.Repeat("x", 256), "anna", nil, bad, "256 bytes"},
		{"a newline in a user", "ftp", "an\nna", nil, bad, "is no user name"},
		{"an option that there is not", "ftp", "anna", one("colour", "blue"), unknown, "OpenConversation has no option \"colour\"; it has agent, ask-password, pid, reason, timeout, uid"},
		{"an option of OpenSession", "ftp", "anna", one("linger", true), unknown, "has no option"},
		{"a reason that is a number", "ftp", "anna", one("reason", uint32(1)), bad, "option reason is a string"},
		{"a long reason", "ftp", "anna", one("reason", strings.Repeat("x", 4097)), bad, "4097 bytes"},
		{"a reason of two lines", "ftp", "anna", one("reason", "a\nb"), bad, "a control character"},
		{"a timeout of another type", "ftp", "anna", one("timeout", uint32(1)), bad, "a uint64"},
		{"a long timeout", "ftp", "anna", one("timeout", uint64(math.MaxUint64)), bad, "over a year"},
		{"an agent that is a word", "ftp", "anna", one("agent", "yes"), bad, "a boolean"},
		{"ask-password that is no word of it", "ftp", "anna", one("ask-password", "maybe"), bad, "none of yes, no, fallback"},
		{"a pid of another type", "ftp", "anna", one("pid", int32(1)), bad, "a uint32"},
		{"pid 0", "ftp", "anna", one("pid", uint32(0)), bad, "which is no process"},
		{"a pid that is none", "ftp", "anna", one("pid", uint32(1<<31)), bad, "which is no process"},
		{"a uid of another type", "ftp", "anna", one("uid", int32(1)), bad, "a uint32"},
		{"the uid of nobody", "ftp", "anna", one("uid", uint32(math.MaxUint32)), bad, "which is nobody"},
		{"a process that there is not", "ftp", "anna", one("pid", uint32(math.MaxInt32)), bad, "there is no such process"},
	} {
		t.Run(test.name, func(t *testing.T) {
			if test.options == nil {
				test.options = values{}
			}
			wantRefused(t, call(conn, api.RootPath, api.ManagerInterface+".OpenConversation", test.service, test.user, test.options).Err, test.code, test.says)
		})
	}
	if list, err := b.agent.Sessions(within(t)); err != nil || len(list) != 0 {
		t.Errorf("there are %+v, %v", list, err)
	}
}

func TestQuestionsThatAreWrong(t *testing.T) {
	b := start(t)
	conn := b.Conn(t)
	var id uint64
	var path dbus.ObjectPath
	if err := call(conn, api.RootPath, api.ManagerInterface+".OpenConversation", "ftp", "anna", one("pid", uint32(os.Getpid()))).Store(&id, &path); err != nil {
		t.Fatal(err)
	}
	b.watches()
	before := b.descriptors()
	packet := base64.StdEncoding.EncodeToString
	many := make([]string, 65)
	for i := range many {
		many[i] = "x"
	}
	const bad, unknown = api.InvalidArgument, api.UnknownOption
	for _, test := range []struct {
		name, style, message string
		details              values
		code                 api.Code
		says                 string
	}{
		{"a style that is none", "loud", "?", nil, bad, `"loud" is no style: it is one of binary, choice, error, info, secret, visible`},
		{"no style", "", "?", nil, bad, "is no style"},
		{"a long message", "secret", strings.Repeat("x", 128<<10+1), nil, bad, "131073 bytes"},
		{"a long text", "info", strings.Repeat("x", 128<<10+1), nil, bad, "131073 bytes"},
		{"a detail that there is not", "secret", "?", one("colour", "blue"), unknown, "Ask has no detail \"colour\"; it has attempt, binary, choices, phase, timeout"},
		{"a detail that is the broker's", "secret", "?", one("owner-uid", uint32(0)), unknown, "has no detail"},
		{"a detail of a text", "info", "?", one("phase", "account"), bad, "has no details"},
		{"choices of a secret", "secret", "?", one("choices", []string{"a"}), bad, "of style choice, not of secret"},
		{"no choices", "choice", "?", one("choices", []string{}), bad, "has 0 entries"},
		{"too many choices", "choice", "?", one("choices", many), bad, "has 65 entries"},
		{"an empty choice", "choice", "?", one("choices", []string{"a", ""}), bad, "an entry of 0 bytes"},
		{"a long choice", "choice", "?", one("choices", []string{strings.Repeat("x", 4097)}), bad, "an entry of 4097 bytes"},
		{"choices that are one", "choice", "?", one("choices", "a"), bad, "an array of strings"},
		{"a packet of a secret", "secret", "?", one("binary", packet([]byte{0, 0, 0, 5, 1})), bad, "of style binary, not of secret"},
		{"no packet", "binary", "", nil, bad, "needs detail binary"},
		{"an empty packet", "binary", "", one("binary", ""), bad, "no packet"},
		{"a packet that is no base64", "binary", "", one("binary", "?"), bad, "is no base64"},
		{"a packet of bytes", "binary", "", one("binary", []byte{0, 0, 0, 5, 1}), bad, "a string"},
		{"a packet that says that it is longer", "binary", "", one("binary", packet([]byte{0, 0, 0, 6, 1})), bad, "no packet"},
		{"a long packet", "binary", "", one("binary", strings.Repeat("A", 100<<10)), bad, "102400 bytes"},
		{"a timeout of another type", "secret", "?", one("timeout", "soon"), bad, "a uint64"},
		{"a long timeout", "secret", "?", one("timeout", uint64(math.MaxUint64)), bad, "over a year"},
		{"a phase that is none", "secret", "?", one("phase", "lunch"), bad, "none of start, authenticate, account"},
		{"the phase that is none", "secret", "?", one("phase", "unknown"), bad, "none of start"},
		{"a phase that is a number", "secret", "?", one("phase", uint32(20)), bad, "a string"},
		{"attempt 0", "secret", "?", one("attempt", uint32(0)), bad, "counted from 1"},
		{"an attempt of another type", "secret", "?", one("attempt", "first"), bad, "a uint32"},
	} {
		t.Run(test.name, func(t *testing.T) {
			if test.details == nil {
				test.details = values{}
			}
			wantRefused(t, call(conn, path, api.SessionInterface+".Ask", test.style, test.message, test.details).Err, test.code, test.says)
		})
	}
	if list, err := b.agent.Prompts(within(t)); err != nil || len(list) != 0 {
		t.Errorf("there are %+v, %v", list, err)
	}
	b.wantDescriptors(before)
}

// The process in whose name root asks is what agents see.
func TestTheProcessThatIsAskedFor(t *testing.T) {
	b := start(t)
	v := converse(t, b.Client(t), api.ConversationOptions{PID: 1})
	ask(t, v, password)
	comm, err := os.ReadFile("/proc/1/comm")
	if err != nil {
		t.Fatal(err)
	}
	if p := next[api.Prompt](b); p.OwnerPID != 1 || fmt.Sprintln(p.OwnerComm) != string(comm) || *p.OwnerUID != 0 {
		t.Errorf("the prompt is %+v, and process 1 is %s", p, comm)
	}
}
