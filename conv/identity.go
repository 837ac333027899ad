// SPDX-License-Identifier: Apache-2.0

package conv

import (
	"errors"
	"fmt"
	"math"
	"os"
	"os/user"
	"strconv"

	"github.com/msteinert/pam/v2"
	"golang.org/x/sys/unix"

	"github.com/pamprompt/pamprompt/api/worker"
)

// account is what NSS says of a user.
type account struct {
	uid, gid uint32
}

// findUser asks NSS. It returns nil when nobody knows the user.
func findUser(name string) (*account, error) {
	u, err := user.Lookup(name)
	if unknown := user.UnknownUserError(""); errors.As(err, &unknown) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	uid, err := parseID(u.Uid)
	if err != nil {
		return nil, fmt.Errorf("the uid of %s: %w", name, err)
	}
	gid, err := parseID(u.Gid)
	if err != nil {
		return nil, fmt.Errorf("the gid of %s: %w", name, err)
	}
	return &account{uid, gid}, nil
}

// parseID takes a uid or gid, but for the one that is none: the kernel reads it
// as "leave that as it is", which here is root's.
func parseID(text string) (uint32, error) {
	id, err := strconv.ParseUint(text, 10, 32)
	if err == nil && id == math.MaxUint32 {
		err = fmt.Errorf("%d is none", id)
	}
	return uint32(id), err
}

// findName asks NSS for the name of an account. It is empty when nobody knows
// the uid.
func findName(uid uint32) (string, error) {
	u, err := user.LookupId(strconv.FormatUint(uint64(uid), 10))
	if unknown := user.UnknownUserIdError(0); errors.As(err, &unknown) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	return u.Username, nil
}

// findAccount looks at the start who the user is. That nobody knows the name is
// for modules to judge: some of them make the user as he comes in.
func (t *transaction) findAccount() {
	account, err := findUser(t.user)
	if err != nil {
		t.log.Warn("look up the user", "error", err)
	}
	t.note(account)
}

// note says whom NSS takes the user for, when that is known for the first time.
func (t *transaction) note(account *account) {
	if account == nil || t.account != nil {
		return
	}
	t.account = account
	t.session.resolve(account.uid)
}

// identify makes sure that the user is the one that policy allowed, if it had to
// know the uid: NSS may say something else by now, and says it to the modules.
// The words are those of an unknown user; what was wrong is for the log.
func (t *transaction) identify(phase worker.Phase) *failure {
	if t.expected == nil {
		return nil
	}
	account, err := findUser(t.user)
	if err == nil && account != nil && account.uid == *t.expected {
		return nil
	}
	log := t.log.With("user", t.user, "expected", *t.expected)
	switch {
	case err != nil:
		log.Warn("the user could not be looked up again", "error", err)
	case account == nil:
		log.Warn("NSS does not know the user that policy allowed")
	default:
		log.Warn("NSS has another uid for the user than policy allowed", "uid", account.uid)
	}
	f := pamFailure(worker.Phase_PHASE_AUTHENTICATE, "pam_authenticate", pam.ErrAuth)
	f.phase = phase
	return f
}

// initGroups gives this thread the groups of the user, and of nobody else, as
// NSS has them now: what it said before the user had authenticated may have been
// a guess, and that was root's group in CVE-2025-5689. A user whom NSS does not
// know even now has none. Without root nobody has groups to give.
func (t *transaction) initGroups() error {
	account, err := findUser(t.user)
	if err != nil {
		return fmt.Errorf("initgroups: look up %s: %w", t.user, err)
	}
	if account != nil && t.account != nil && account.uid != t.account.uid {
		return fmt.Errorf("initgroups: the uid of %s was %d and is %d", t.user, t.account.uid, account.uid)
	}
	t.note(account)
	if os.Geteuid() != 0 {
		return nil
	}
	if account == nil {
		return unix.Setgroups(nil)
	}
	return initGroups(t.user, account.gid)
}

// requester is PAM_RUSER. Root may say what it likes. For others it is the name
// of the account that opened the session, as with su and sudo: modules decide by
// it (pam_rhosts, pam_access, pam_succeed_if), so nobody chooses it himself.
func (t *transaction) requester() (string, *failure) {
	const phase = worker.Phase_PHASE_START
	if uid := t.owner.GetUid(); uid == 0 || int(uid) == os.Geteuid() {
		return t.options.GetRuser(), nil
	}
	name, err := findName(t.owner.GetUid())
	switch {
	case err != nil:
		return "", t.ownFailure(phase, fmt.Sprintf("look up who opens the session, uid %d: %v", t.owner.GetUid(), err))
	case name == "":
		return "", t.ownFailure(phase, fmt.Sprintf("uid %d, who opens the session, has no account: modules are told its name (PAM_RUSER)", t.owner.GetUid()))
	}
	if err := checkUser(name); err != nil {
		return "", t.ownFailure(phase, fmt.Sprintf("look up who opens the session, uid %d: %v", t.owner.GetUid(), err))
	}
	return name, nil
}
