// SPDX-License-Identifier: Apache-2.0

// Authenticate runs PAM itself, as daemons do, and has the questions of its modules
// answered through pamprompt:
//
//	authenticate SERVICE USER
package main

import (
	"context"
	"fmt"
	"log"
	"os"
	"time"

	"github.com/msteinert/pam/v2"

	"github.com/pamprompt/pamprompt/api"
	"github.com/pamprompt/pamprompt/api/conv"
	"github.com/pamprompt/pamprompt/api/secret"
)

func main() {
	log.SetFlags(0)
	if len(os.Args) != 3 {
		log.Fatal("usage: authenticate SERVICE USER")
	}
	if err := authenticate(os.Args[1], os.Args[2]); err != nil {
		log.Fatal(err)
	}
	fmt.Println("ok")
}

func authenticate(service, user string) error {
	if err := secret.ProtectProcess(); err != nil { // it gets passwords
		return err
	}
	client, err := api.Connect(context.Background())
	if err != nil {
		return err
	}
	defer client.Close()
	handler := conv.New(client, service, user, conv.Options{Reason: "an example", Timeout: 2 * time.Minute})
	defer handler.Close()

	transaction, err := pam.Start(service, user, handler)
	if err != nil {
		return err
	}
	defer transaction.End()
	handler.SetPhase("authenticate", 1)
	err = transaction.Authenticate(0)
	handler.Wipe()
	if err == nil {
		handler.SetPhase("account", 0)
		err = transaction.AcctMgmt(0)
		handler.Wipe()
	}
	if err != nil && handler.Err() != nil {
		return fmt.Errorf("%w: %w", err, handler.Err())
	}
	return err
}
