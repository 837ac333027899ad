#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Opens a session, answers its prompts, waits until it is open and closes it.

Written from the README and dbus-1/interfaces alone, with python3-dbus. Service,
user and answers come from the environment: PAM_SERVICE, PAM_USER, PASSWORD,
CODE. It exits with 0 when everything went as described there.
"""

import fcntl
import os
import sys

import dbus
import dbus.mainloop.glib
from gi.repository import GLib

NAME = "org.pamprompt.Broker1"
ROOT = "/org/pamprompt/Broker1"
MANAGER = NAME + ".Manager"
SESSION = NAME + ".Session"
SEALS = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE


def memfd(answer):
    """A sealed memfd that holds the answer."""
    fd = os.memfd_create("answer", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.write(fd, answer)
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, SEALS)
    return fd


class Client:
    def __init__(self, bus, loop, answers):
        self.bus, self.loop, self.answers = bus, loop, answers
        self.path = None  # unknown until OpenSession has replied
        self.early = []  # prompts that came before it
        self.asked = []  # the messages of all prompts
        self.outcomes = []
        self.error = None
        self.manager = dbus.Interface(bus.get_object(NAME, ROOT, introspect=False), MANAGER)
        bus.add_signal_receiver(self.prompt, "Prompt", MANAGER, NAME, ROOT)
        bus.add_signal_receiver(self.prompt_closed, "PromptClosed", MANAGER, NAME, ROOT)

    def open(self, service, user):
        options = dbus.Dictionary({"agent": True, "reason": "the Python test"}, signature="sv")
        self.manager.OpenSession(service, user, options, reply_handler=self.opened, error_handler=self.fail)

    def opened(self, _number, path):
        self.path = path
        self.bus.add_signal_receiver(self.changed, "PropertiesChanged", dbus.PROPERTIES_IFACE, NAME, path)
        for args in self.early:
            self.answer(*args)
        self.check_state()

    def prompt(self, number, path, style, message, details):
        if self.path is None:
            self.early.append((number, path, style, message, details))
        else:
            self.answer(number, path, style, message, details)

    def answer(self, number, path, style, message, details):
        if path != self.path:
            return
        if details["service"] != os.environ["PAM_SERVICE"] or details["reason"] != "the Python test":
            return self.fail(f"unexpected details {details}")
        print(f"{style} prompt: {message}")
        fd = memfd(self.answers[len(self.asked)].encode())
        self.asked.append(str(message))
        self.manager.AnswerPromptFD(number, dbus.types.UnixFd(fd), reply_handler=lambda: None, error_handler=self.fail)
        os.close(fd)  # UnixFd made a copy

    def prompt_closed(self, _number, outcome):
        self.outcomes.append(str(outcome))

    def properties(self):
        session = self.bus.get_object(NAME, self.path, introspect=False)
        return dbus.Interface(session, dbus.PROPERTIES_IFACE).GetAll(SESSION)

    def changed(self, interface, changed, _invalidated):
        if interface == SESSION and "State" in changed:
            self.check_state()

    def check_state(self):
        properties = self.properties()
        state = properties["State"]
        print(f"state: {state}")
        if state == "open":
            print("environment: " + " ".join(sorted(properties["Environment"])))
            session = dbus.Interface(self.bus.get_object(NAME, self.path, introspect=False), SESSION)
            session.Close(reply_handler=lambda: None, error_handler=self.fail)
        elif state == "closed":
            self.loop.quit()
        elif state == "failed":
            self.fail(properties["ResultText"])

    def fail(self, error):
        self.error = error
        self.loop.quit()


def main():
    dbus.mainloop.glib.DBusGMainLoop(set_as_default=True)
    loop = GLib.MainLoop()
    client = Client(dbus.SystemBus(), loop, [os.environ["PASSWORD"], os.environ["CODE"]])
    client.open(os.environ["PAM_SERVICE"], os.environ["PAM_USER"])
    GLib.timeout_add_seconds(60, client.fail, "nothing happened for 60 seconds")
    loop.run()
    if client.error is not None:
        sys.exit(f"client.py: {client.error}")
    if len(client.asked) != 2 or client.outcomes != ["answered", "answered"]:
        sys.exit(f"client.py: asked {client.asked}, outcomes {client.outcomes}")
    print("ok")


if __name__ == "__main__":
    main()
