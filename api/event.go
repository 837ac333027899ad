// SPDX-License-Identifier: Apache-2.0

package api

import "github.com/godbus/dbus/v5"

// Event is what a Watcher tells: Prompt, PromptClosed, Message, SessionAdded,
// SessionRemoved, SessionChanged, BrokerGone or BrokerBack.
type Event interface{ event() }

// PromptClosed says that a prompt waits no more, whoever ended it.
type PromptClosed struct {
	ID      uint64 `json:"prompt"`
	Outcome string `json:"outcome"` // OutcomeAnswered, ...
}

// Message is a text of a module, as it happens.
type Message struct {
	Session uint64 `json:"session"`
	Text
}

// SessionAdded says that there is a session. After a restart of the broker
// every session that lived on is added again.
type SessionAdded struct {
	ID uint64 `json:"session"`
}

// SessionRemoved says that the broker has forgotten a session.
type SessionRemoved struct {
	ID uint64 `json:"session"`
}

// SessionChanged says that a session is in a new state.
type SessionChanged struct {
	ID        uint64 `json:"session"`
	State     string `json:"state"`
	PAMResult int32  `json:"pam-result"`
}

// BrokerGone says that the broker has left the bus. Nobody can answer what was
// asked before: prompts that still wait when it is back are told again.
type BrokerGone struct{}

// BrokerBack says that there is a broker again. A Watcher with
// WatchOptions.Agent has registered with it by itself.
type BrokerBack struct{}

func (Prompt) event()         {}
func (PromptClosed) event()   {}
func (Message) event()        {}
func (SessionAdded) event()   {}
func (SessionRemoved) event() {}
func (SessionChanged) event() {}
func (BrokerGone) event()     {}
func (BrokerBack) event()     {}

// decodeEvent is the event that a signal of the broker stands for, or nil.
func decodeEvent(signal *dbus.Signal) Event {
	var id uint64
	var path dbus.ObjectPath
	switch signal.Name {
	case ManagerInterface + ".Prompt":
		var style, message string
		var details map[string]dbus.Variant
		if dbus.Store(signal.Body, &id, &path, &style, &message, &details) == nil {
			return newPrompt(id, path, style, message, details)
		}
	case ManagerInterface + ".PromptClosed":
		var outcome string
		if dbus.Store(signal.Body, &id, &outcome) == nil {
			return PromptClosed{ID: id, Outcome: outcome}
		}
	case ManagerInterface + ".Message":
		var text Text
		if dbus.Store(signal.Body, &path, &text.Style, &text.Text) == nil {
			return Message{Session: sessionNumber(path), Text: text}
		}
	case ManagerInterface + ".SessionAdded":
		if dbus.Store(signal.Body, &id, &path) == nil {
			return SessionAdded{ID: id}
		}
	case ManagerInterface + ".SessionRemoved":
		if dbus.Store(signal.Body, &id, &path) == nil {
			return SessionRemoved{ID: id}
		}
	case propertiesChanged:
		return decodeChange(signal)
	}
	return nil
}

// decodeChange is the event of a PropertiesChanged that tells a state.
func decodeChange(signal *dbus.Signal) Event {
	var iface string
	var changed map[string]dbus.Variant
	var invalidated []string
	if dbus.Store(signal.Body, &iface, &changed, &invalidated) != nil || iface != SessionInterface {
		return nil
	}
	state := value[string](changed, "State")
	if state == "" {
		return nil
	}
	return SessionChanged{ID: sessionNumber(signal.Path), State: state, PAMResult: value[int32](changed, "PAMResult")}
}
