// A client of rsockd with rsocket-go: go run . [tcp://HOST:PORT | ws://HOST:PORT/PATH]
package main

import (
	"context"
	"encoding/binary"
	"fmt"
	"log"
	"os"
	"strings"

	"github.com/rsocket/rsocket-go"
	"github.com/rsocket/rsocket-go/core/transport"
	"github.com/rsocket/rsocket-go/extension"
	"github.com/rsocket/rsocket-go/payload"
	"github.com/rsocket/rsocket-go/rx"
	"github.com/rsocket/rsocket-go/rx/flux"
)

const batch = 4

func main() {
	uri := "tcp://127.0.0.1:7878"
	if len(os.Args) > 1 {
		uri = os.Args[1]
	}
	if err := run(context.Background(), uri); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, uri string) error {
	// rsockd lets everyone in; a server made with the library checks what SETUP says.
	credentials := entry(extension.MessageAuthentication, simple("user", "pass"))
	client, err := rsocket.Connect().
		DataMimeType("application/json").
		MetadataMimeType("message/x.rsocket.composite-metadata.v0").
		SetupPayload(payload.New(nil, credentials)).
		Transport(over(uri)).
		Start(ctx)
	if err != nil {
		return err
	}
	defer client.Close()

	answer, err := client.RequestResponse(request("echo", "hello")).Block(ctx)
	if err != nil {
		return err
	}
	fmt.Println("echo:", answer.DataUTF8())

	numbers, err := inBatches(ctx, client.RequestStream(request("range", `{"from":0,"to":10}`)))
	if err != nil {
		return err
	}
	fmt.Println("range:", strings.Join(numbers, " "))

	// The first line opens the channel; the others go out as the service asks for them.
	two, three := payload.New([]byte("two"), nil), payload.New([]byte("three"), nil)
	lines := flux.Just(request("echo", "one"), two, three)
	echoed, err := inBatches(ctx, client.RequestChannel(lines))
	if err != nil {
		return err
	}
	fmt.Println("channel:", strings.Join(echoed, " "))
	return nil
}

// inBatches collects a stream's items, and asks for the next batch when one is there.
func inBatches(ctx context.Context, stream flux.Flux) (items []string, err error) {
	var subscription rx.Subscription
	done := make(chan error, 1)
	stream.Subscribe(ctx,
		rx.OnSubscribe(func(_ context.Context, s rx.Subscription) {
			subscription = s
			subscription.Request(batch)
		}),
		rx.OnNext(func(item payload.Payload) error {
			items = append(items, string(item.Data()))
			if len(items)%batch == 0 {
				subscription.Request(batch)
			}
			return nil
		}),
		rx.OnError(func(err error) { done <- err }),
		rx.OnComplete(func() { done <- nil }),
	)
	err = <-done
	return items, err
}

func over(uri string) transport.ClientTransporter {
	if strings.HasPrefix(uri, "ws://") {
		return rsocket.WebsocketClient().SetURL(uri).Build()
	}
	return rsocket.TCPClient().SetAddr(strings.TrimPrefix(uri, "tcp://")).Build()
}

func request(route, data string) payload.Payload {
	tags, err := extension.EncodeRouting(route)
	if err != nil {
		log.Fatal(err)
	}
	return payload.New([]byte(data), entry(extension.MessageRouting, tags))
}

// entry is composite metadata of one entry.
func entry(mime extension.MIME, content []byte) []byte {
	composite, err := extension.NewCompositeMetadataBuilder().PushWellKnown(mime, content).Build()
	if err != nil {
		log.Fatal(err)
	}
	return composite
}

// simple is a user name with its length before it, then the password.
func simple(user, password string) []byte {
	content := binary.BigEndian.AppendUint16(nil, uint16(len(user)))
	content = append(content, user+password...)
	return extension.MustNewAuthentication("simple", content).Bytes()
}
