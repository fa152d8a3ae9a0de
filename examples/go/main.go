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
	"github.com/rsocket/rsocket-go/extension"
	"github.com/rsocket/rsocket-go/payload"
	"github.com/rsocket/rsocket-go/rx"
	"github.com/rsocket/rsocket-go/rx/flux"
)

const batch = 4

func main() {
	uri := append(os.Args, "tcp://127.0.0.1:7878")[1]
	over := rsocket.TCPClient().SetAddr(strings.TrimPrefix(uri, "tcp://")).Build()
	if strings.HasPrefix(uri, "ws://") {
		over = rsocket.WebsocketClient().SetURL(uri).Build()
	}

	ctx := context.Background()
	// rsockd lets everyone in; a server made with the library checks what SETUP says.
	credentials := metadata(extension.MessageAuthentication, simple("user", "pass"))
	client := must(rsocket.Connect().
		DataMimeType("application/json").
		MetadataMimeType("message/x.rsocket.composite-metadata.v0").
		SetupPayload(payload.New(nil, credentials)).
		Transport(over).
		Start(ctx))
	defer client.Close()

	answer := must(client.RequestResponse(request("echo", "hello")).Block(ctx))
	fmt.Println("echo:", answer.DataUTF8())

	numbers := must(inBatches(ctx, client.RequestStream(request("range", `{"from":0,"to":10}`))))
	fmt.Println("range:", strings.Join(numbers, " "))

	// The first line opens the channel; the others go out as the service asks for them.
	two, three := payload.New([]byte("two"), nil), payload.New([]byte("three"), nil)
	lines := flux.Just(request("echo", "one"), two, three)
	echoed := must(inBatches(ctx, client.RequestChannel(lines)))
	fmt.Println("channel:", strings.Join(echoed, " "))
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

func request(route, data string) payload.Payload {
	tags := must(extension.EncodeRouting(route))
	return payload.New([]byte(data), metadata(extension.MessageRouting, tags))
}

// metadata is composite metadata of one entry.
func metadata(mime extension.MIME, content []byte) []byte {
	return must(extension.NewCompositeMetadataBuilder().PushWellKnown(mime, content).Build())
}

// simple is a user name, with its length before it, and a password.
func simple(user, password string) []byte {
	content := binary.BigEndian.AppendUint16(nil, uint16(len(user)))
	return extension.MustNewAuthentication("simple", append(content, user+password...)).Bytes()
}

func must[T any](value T, err error) T {
	if err != nil {
		log.Fatal(err)
	}
	return value
}
