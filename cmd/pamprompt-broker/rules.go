// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/pamprompt/pamprompt/policy"
)

// firstRules reads the rule files. While those are broken only root may do
// anything: a rule that cannot be read may have been one that denies.
func firstRules(dir string, log *slog.Logger) *policy.Rules {
	rules, err := load(dir, log)
	if err != nil {
		log.Error("the rules are broken: until they are mended and reloaded only root may do anything", "error", err)
		return policy.Closed("the rule files are broken")
	}
	return rules
}

// reload reads the rule files again at every SIGHUP (systemctl reload), until
// the context ends. Broken ones change nothing.
func reload(ctx context.Context, hangups <-chan os.Signal, dir string, set func(*policy.Rules), log *slog.Logger) {
	for {
		select {
		case <-hangups:
		case <-ctx.Done():
			return
		}
		rules, err := load(dir, log)
		if err != nil {
			log.Error("the rules are broken: those that were read before stay in force", "error", err)
			continue
		}
		set(rules)
		log.Info("rules reloaded", "directory", dir)
	}
}

// hangups are the SIGHUPs from now on: one that comes while we start must not
// end us.
func hangups() <-chan os.Signal {
	c := make(chan os.Signal, 1)
	signal.Notify(c, syscall.SIGHUP)
	return c
}

// load reads the rule files, of no directory none.
func load(dir string, log *slog.Logger) (*policy.Rules, error) {
	if dir == "" {
		return nil, nil
	}
	rules, err := policy.Load(dir)
	for _, warning := range rules.Warnings() {
		log.Warn("a rule may not be what it looks like", "rule", warning)
	}
	return rules, err
}
