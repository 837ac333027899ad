// SPDX-License-Identifier: Apache-2.0

package api_test

import (
	"context"
	"fmt"
	"log"
	"strings"
	"time"

	"github.com/pamprompt/pamprompt/api"
	"github.com/pamprompt/pamprompt/api/secret"
)

// A program opens a session whose PAM stack asks for a password, answers that
// itself, and closes the session again.
func Example() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	client, err := api.Connect(ctx)
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()

	// Watch first: the first prompt may come before Open returns.
	watcher, err := client.Watch(ctx, api.WatchOptions{})
	if err != nil {
		log.Fatal(err)
	}
	session, err := client.Open(ctx, "example", "anna", api.Options{Agent: true, Reason: "the nightly backup"})
	if err != nil {
		log.Fatal(err)
	}

	for event := range watcher.Events() {
		prompt, ok := event.(api.Prompt)
		if !ok || prompt.Session != session.ID() {
			continue
		}
		fmt.Printf("%s: %s asks for a %s: %q\n", prompt.Reason, prompt.Service, prompt.Style, prompt.Message)
		if err := answer(ctx, client, prompt); err != nil {
			log.Fatal(err)
		}
		break
	}

	if err := session.Wait(ctx, api.StateOpen); err != nil {
		log.Fatal(err) // such as AuthenticationFailed
	}
	properties, err := session.Properties(ctx)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("the session is", properties.State)

	if err := session.Close(ctx); err != nil {
		log.Fatal(err)
	}
	if err := session.Wait(ctx, api.StateClosed); err != nil {
		log.Fatal(err)
	}
	fmt.Println("the session is closed")
	// Output:
	// the nightly backup: example asks for a secret: "Password: "
	// the session is open
	// the session is closed
}

// answer takes the password from wherever the program has it. A constant is
// for the example alone.
func answer(ctx context.Context, client *api.Client, prompt api.Prompt) error {
	password, err := secret.Read(strings.NewReader("correct horse"))
	if err != nil {
		return err
	}
	defer password.Wipe()
	return client.Answer(ctx, prompt.ID, password)
}
