// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"fmt"
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"
)

// The PAM environment is not the environment of the worker, which is emptied
// before PAM starts. But modules read it with pam_getenv and act on it as root
// (pam_systemd, pam_systemd_home, pam_selinux, pam_env), pam_exec gives all of
// it to a program that runs as root, others put parts of it into their own
// process, and the session's processes get it. So whoever sets a variable in it
// speaks to all of these.
//
// There are two lists. allowedForAll is what a caller who is not the admin may
// set, and nothing else: it cannot be known what some module trusts. refused is
// what not even the admin may set: a root daemon may pass on what its own
// client sent, as sshd does with AcceptEnv, and none of these is ever needed to
// open a session. Between the two is what login programs set for good reasons
// and what is the attack when a user sets it: XDG_SEAT, XDG_VTNR,
// XDG_SESSION_CLASS, XDG_SESSION_TYPE and XDG_SESSION_DESKTOP for pam_systemd
// (CVE-2019-3842: a remote user said to sit at the seat, and polkit believed
// it), SELINUX_ROLE_REQUESTED and SELINUX_LEVEL_REQUESTED for pam_selinux,
// SYSTEMD_HOME_SUSPEND for pam_systemd_home, SSH_CONNECTION and SSH_AUTH_INFO_0
// for modules that ask what sshd has seen, SSH_AUTH_SOCK for those that ask an
// agent, KRB5CCNAME for those that take the tickets of another, XDG_RUNTIME_DIR
// and HOME for those that look for a socket or a file, PATH, SHELL, USER,
// LOGNAME, MAIL, TZ, DISPLAY, XAUTHORITY.

// allowedForAll are the names that everybody may set; a * at the end stands for
// any rest. They choose language and looks. Their values name files when they
// hold a slash (a locale, a terminal description), and % begins what printf
// obeys: sudo refuses both in the same variables.
var allowedForAll = newNames([]family{
	{"language", "LANG LANGUAGE LC_*"},
	{"terminal", "TERM COLORTERM NO_COLOR"},
})

// refused are the names that nobody may set, with what reads them.
var refused = newNames([]family{
	// Libraries and code that the dynamic linker loads into every program
	// that pam_exec or the session starts. ld.so(8).
	{"the dynamic linker obeys it", "LD_* _RLD* LDR_* DYLD_* LIBPATH SHLIB_PATH"},
	// What glibc itself ignores in set-uid programs (unsecvars.h), and more of
	// the kind: modules to load (GCONV_PATH: CVE-2021-4034), parameters of the
	// allocator and the linker (GLIBC_TUNABLES: CVE-2023-4911), files to
	// read and to write, whom the resolver asks for the name of a host.
	{"the C library obeys it", "GLIBC_TUNABLES GCONV_PATH GETCONF_DIR LOCPATH I18NPATH NLSPATH PATH_LOCALE TZDIR DATEMSK " +
		"MALLOC_* ARGP_HELP_FMT GMON_OUT_PREFIX MSGVERB SEV_LEVEL SEGFAULT_* PCPROFILE_OUTPUT MEMUSAGE_* SOTRUSS_* " +
		"TEXTDOMAIN TEXTDOMAINDIR OUTPUT_CHARSET"},
	{"the resolver obeys it", "RES_OPTIONS HOSTALIASES LOCALDOMAIN RESOLV_* HES_DOMAIN HESIOD_CONFIG NIS_*"},
	{"programs put files that they trust there", "TMPDIR TMP TEMP TMPPREFIX"},
	// Commands and files that a shell runs or reads before its script.
	{"shells obey it", "ENV BASH_* BASHOPTS SHELLOPTS PS4 IFS CDPATH GLOBIGNORE FPATH NULLCMD READNULLCMD ZDOTDIR " +
		"PROMPT_COMMAND POSIXLY_CORRECT EXECIGNORE KSH_* MKSH*"},
	// Code that interpreters load, debug output that they write.
	{"an interpreter obeys it", "PERL* PYTHON* RUBY* GEM_* BUNDLE_* LUA_* NODE_OPTIONS NODE_PATH JAVA_TOOL_OPTIONS _JAVA_OPTIONS JDK_JAVA_OPTIONS CLASSPATH " +
		"TCLLIBPATH PHPRC PHP_INI_SCAN_DIR GUILE_* AWKPATH AWKLIBPATH GAWK_* GODEBUG GOTRACEBACK GOCOVERDIR GORACE " +
		"GIT_* LESSOPEN LESSCLOSE LESSKEYIN"},
	{"it names the files of terminal descriptions", "TERMINFO TERMINFO_DIRS TERMPATH TERMCAP"},
	// Kerberos: whom to believe, keys, a file to write (KRB5_TRACE).
	// KRB5CCNAME is not here: it is how a login program hands tickets over.
	{"Kerberos obeys it", "KRB5_* KRB5RCACHE* KRB5RCNAME KRB_CONF KRBCONFDIR KRBTKFILE GSS_* GSSAPI_* GSSPROXY_*"},
	// TLS, LDAP, RADIUS, tokens: whom to believe, libraries to load as engine
	// or PKCS#11 module, files for keys (SSLKEYLOGFILE), the way through a proxy.
	{"a cryptographic library obeys it", "OPENSSL_* SSL_CERT_FILE SSL_CERT_DIR SSLKEYLOGFILE QLOGDIR CTLOG_FILE RANDFILE " +
		"GNUTLS_* NSS_* NSPR_* LIBGCRYPT_* GCRYPT_* P11_* PKCS11_* OPENSC_* OSCARD_* SOFTHSM* PCSCLITE_* LIBCCID_* " +
		"TPM_* TPM2_* TPM2TOOLS_* TCTI TSS2_* FIDO_* LIBFIDO* VAR_ACE USR_ACE DLC_ACE"},
	{"a directory or network library obeys it", "LDAP* SASL_* CURL_* http_proxy https_proxy ftp_proxy all_proxy no_proxy " +
		"HTTP_PROXY HTTPS_PROXY FTP_PROXY ALL_PROXY NO_PROXY"},
	// The system bus is where modules ask logind, homed, fprintd: an address of
	// the caller's own would give its answers. GIO loads modules.
	{"it says which system bus to believe, or what to load", "DBUS_SYSTEM_* DBUS_STARTER_* DBUS_FATAL_* DBUS_DEBUG_* " +
		"GIO_* GSETTINGS_* G_* GTK_MODULES GTK_PATH GTK_EXE_PREFIX GI_TYPELIB_PATH QT_PLUGIN_PATH QT_QPA_PLATFORM_PLUGIN_PATH QML_IMPORT_PATH QML2_IMPORT_PATH"},
	// What the service manager says to the unit, which is the worker's and not
	// the session's: a module that runs a daemon's code would answer in its
	// name, take a descriptor for a socket, or read others' credentials.
	{"it is the service manager's", "NOTIFY_SOCKET LISTEN_* WATCHDOG_* FDSTORE CREDENTIALS_DIRECTORY ENCRYPTED_CREDENTIALS_DIRECTORY " +
		"JOURNAL_STREAM INVOCATION_ID MAINPID MANAGERPID MANAGERPIDFDID MEMORY_PRESSURE_* PIDFILE REMOTE_ADDR REMOTE_PORT TRIGGER_* " +
		"MONITOR_* SERVICE_RESULT EXIT_CODE EXIT_STATUS RUNTIME_DIRECTORY STATE_DIRECTORY CACHE_DIRECTORY LOGS_DIRECTORY " +
		"CONFIGURATION_DIRECTORY"},
	// systemd's libraries: which user database to believe, what to skip.
	{"systemd's libraries obey it", "SYSTEMD_*"},
	// pam_systemd asks logind to release the session of this name when ours
	// closes, whoever's it is. Only pam_systemd itself knows the right one.
	{"pam_systemd sets it", "XDG_SESSION_ID"},
	// pam_exec puts PAM_USER, PAM_SERVICE and the like behind the PAM environment,
	// and of two getenv takes the first, which is the caller's. pam_krb5 and
	// pam_kwallet hand files and sockets from phase to phase in such names.
	{"PAM modules set it", "PAM_*"},
})

// exempt are names of the families above that login programs do need.
// SYSTEMD_HOME_SUSPEND is how a desktop tells pam_systemd_home that it can lock
// its screen.
var exempt = newNames([]family{{"", "SYSTEMD_HOME_SUSPEND"}})

// family are names with one reason. A * at the end of a name stands for any rest.
type family struct{ why, names string }

// names finds the reason of a name.
type names struct {
	exact    map[string]string
	prefixes []family // names is one prefix, without the *
}

func newNames(families []family) names {
	n := names{exact: map[string]string{}}
	for _, f := range families {
		for _, name := range strings.Fields(f.names) {
			if prefix, ok := strings.CutSuffix(name, "*"); ok {
				n.prefixes = append(n.prefixes, family{f.why, prefix})
			} else {
				n.exact[name] = f.why
			}
		}
	}
	return n
}

// find returns the reason why a name is in the list, and whether it is.
func (n names) find(name string) (why string, ok bool) {
	if why, ok = n.exact[name]; ok {
		return why, true
	}
	for _, f := range n.prefixes {
		if strings.HasPrefix(name, f.names) {
			return f.why, true
		}
	}
	return "", false
}

var variableName = regexp.MustCompile(`\A[A-Za-z_][A-Za-z0-9_]{0,254}\z`)

// checkVariable says whether a caller may set a variable of the PAM environment.
// The error never holds the value.
func checkVariable(admin bool, entry string) error {
	name, value, ok := strings.Cut(entry, "=")
	if !ok || !variableName.MatchString(name) {
		return fmt.Errorf("option environment has an entry that is not NAME=value, with letters, digits and _ in the name")
	}
	if why, is := refused.find(name); is {
		if _, is := exempt.find(name); !is {
			return fmt.Errorf("option environment has %s, which nobody may set: %s", name, why)
		}
	}
	switch {
	case strings.ContainsRune(value, 0):
		return fmt.Errorf("option environment has %s with a NUL character in its value", name)
	case strings.HasPrefix(value, "()"):
		// A shell without the fix of CVE-2014-6271 takes it for a function.
		return fmt.Errorf("option environment has %s with a value that starts with (): a shell may take it for a function", name)
	case admin:
		return nil
	}
	if _, is := allowedForAll.find(name); !is {
		return fmt.Errorf("option environment has %s, which only root may set: PAM modules may trust it; everybody may set LANG, LANGUAGE, LC_*, TERM, COLORTERM, NO_COLOR", name)
	}
	if strings.ContainsAny(value, "/%") || strings.ContainsFunc(value, unicode.IsControl) || !utf8.ValidString(value) {
		return fmt.Errorf("option environment has %s with a value that only root may set: one that holds / or %% or a control character", name)
	}
	return nil
}
