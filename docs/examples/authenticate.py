#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Runs PAM itself, as daemons do, and has the questions of its modules answered
through pamprompt:

    authenticate.py SERVICE USER

With python3-dbus, and libpam by ctypes. Python keeps copies of what passes through
it: a program for passwords is better written in C or Go.
"""

import ctypes
import sys

import dbus

NAME = "org.pamprompt.Broker1"
PAM_SUCCESS, PAM_BUF_ERR, PAM_CONV_ERR = 0, 5, 19
STYLES = {1: "secret", 2: "visible", 3: "error", 4: "info", 5: "choice"}

libpam, libc = ctypes.CDLL("libpam.so.0"), ctypes.CDLL(None)
libc.calloc.restype = ctypes.c_void_p
libc.calloc.argtypes = [ctypes.c_size_t, ctypes.c_size_t]
libc.strdup.restype = ctypes.c_void_p
libc.strdup.argtypes = [ctypes.c_char_p]


class Message(ctypes.Structure):
    _fields_ = [("style", ctypes.c_int), ("text", ctypes.c_char_p)]


class Response(ctypes.Structure):
    _fields_ = [("text", ctypes.c_void_p), ("code", ctypes.c_int)]


Callback = ctypes.CFUNCTYPE(
    ctypes.c_int,
    ctypes.c_int,
    ctypes.POINTER(ctypes.POINTER(Message)),
    ctypes.POINTER(ctypes.POINTER(Response)),
    ctypes.c_void_p,
)


class Conversation(ctypes.Structure):
    _fields_ = [("callback", Callback), ("data", ctypes.c_void_p)]


class Asker:
    def __init__(self, service, user):
        bus = dbus.SystemBus()
        manager = dbus.Interface(bus.get_object(NAME, "/org/pamprompt/Broker1"), NAME + ".Manager")
        options = dbus.Dictionary({"reason": "an example", "timeout": dbus.UInt64(120_000_000)}, signature="sv")
        _, path = manager.OpenConversation(service, user, options)
        self.session = dbus.Interface(bus.get_object(NAME, path), NAME + ".Session")

    def ask(self, style, text):
        """The answer; None if there is none, and b"" for what wants none."""
        _, response = self.session.Ask(style, text.decode(errors="replace"), dbus.Dictionary({}, signature="sv"))
        with open(response.take(), "rb") as pipe:
            said = pipe.read()
        if said[:1] != b"+" or b"\0" in said:
            print("no answer:", said[1:].decode() or "the broker has ended", file=sys.stderr)
            return None
        return said[1:]

    def callback(self, count, messages, responses, _data):
        # libpam frees the array and the texts in it.
        array = ctypes.cast(libc.calloc(count, ctypes.sizeof(Response)), ctypes.POINTER(Response))
        if not array:
            return PAM_BUF_ERR
        responses[0] = array
        for i in range(count):
            message = messages[i].contents
            try:
                answer = self.ask(STYLES[message.style], message.text or b"")
            except (dbus.DBusException, KeyError) as error:
                print("no answer:", error, file=sys.stderr)
                answer = None
            if answer is None:
                return PAM_CONV_ERR
            array[i].text = libc.strdup(answer)
        return PAM_SUCCESS


def main():
    service, user = sys.argv[1:3]
    asker, handle = Asker(service, user), ctypes.c_void_p()
    conversation = Conversation(Callback(asker.callback), None)
    result = libpam.pam_start(service.encode(), user.encode(), ctypes.byref(conversation), ctypes.byref(handle))
    if result == PAM_SUCCESS:
        result = libpam.pam_authenticate(handle, 0)
    if result == PAM_SUCCESS:
        result = libpam.pam_acct_mgmt(handle, 0)
    libpam.pam_end(handle, result)
    asker.session.Close()
    if result != PAM_SUCCESS:
        sys.exit(f"PAM says no, with code {result}")
    print("ok")


if __name__ == "__main__":
    main()
