// A chat in the room.lobby of rsockd, with rsocket-go: go run ./chat NAME [tcp://HOST:PORT | ws://HOST:PORT/PATH]
//
// Lines that are typed are published, and those of others shown; Ctrl-D leaves. When the connection is lost another
// one goes on where this one ended: what was missed comes, and what was not answered is sent again.
package main

import (
	"bufio"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/rsocket/rsocket-go"
	"github.com/rsocket/rsocket-go/extension"
	"github.com/rsocket/rsocket-go/logger"
	"github.com/rsocket/rsocket-go/payload"
	"github.com/rsocket/rsocket-go/rx"
	"github.com/rsocket/rsocket-go/rx/flux"
)

const (
	room   = "room.lobby"
	batch  = 16
	outbox = 16
)

// item is what the service says beside an item, and the item's data.
type item struct {
	Epoch, From, ID, Event, Name string
	Offset                       uint64
	Own                          bool
	Gap                          *struct{ From, To uint64 }
	Start                        *struct {
		Epoch string
		Next  uint64
	}
	Live         *struct{}
	Ack, Refused *struct{ ID, Reason string }
	data         string
}

type object = map[string]any

type line struct{ id, text string }

// chat is what lasts longer than a connection.
type chat struct {
	name, uri string
	// What the service is asked to begin with: then the position behind the last message that was shown.
	from object
	// What was typed and is not answered yet.
	outbox []line
	typed  <-chan string
}

func main() {
	if len(os.Args) < 2 {
		fmt.Fprintln(os.Stderr, "usage: go run ./chat NAME [tcp://HOST:PORT | ws://HOST:PORT/PATH]")
		os.Exit(2)
	}
	logger.SetLevel(logger.LevelError)
	uri := append(os.Args, "tcp://127.0.0.1:7878")[2]
	c := &chat{name: os.Args[1], uri: uri, from: object{"last": 10}, typed: lines()}
	for {
		err := c.talk()
		if err == nil {
			return
		}
		fmt.Fprintf(os.Stderr, "* %v; once more in a second\n", err)
		time.Sleep(time.Second)
	}
}

// lines are those of stdin; the channel is closed at its end.
func lines() <-chan string {
	typed := make(chan string)
	go func() {
		defer close(typed)
		for input := bufio.NewScanner(os.Stdin); input.Scan(); {
			typed <- input.Text()
		}
	}()
	return typed
}

// talk talks until the connection ends, or we leave. The library does not cancel what a channel receives: we leave
// with the connection, and are shown as gone five seconds later.
func (c *chat) talk() error {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	over := rsocket.TCPClient().SetAddr(strings.TrimPrefix(c.uri, "tcp://")).Build()
	if strings.HasPrefix(c.uri, "ws://") {
		over = rsocket.WebsocketClient().SetURL(c.uri).Build()
	}
	ended := make(chan error, 4)
	client, err := rsocket.Connect().
		DataMimeType("application/octet-stream").
		MetadataMimeType("message/x.rsocket.composite-metadata.v0").
		KeepAlive(10*time.Second, 30*time.Second, 1).
		OnClose(func(err error) {
			if err == nil {
				err = errors.New("the connection is lost")
			}
			ended <- err
		}).
		Transport(over).
		Start(ctx)
	if err != nil {
		return err
	}
	defer client.Close()

	opened := make(chan flux.Sink, 1)
	sending := flux.Create(func(_ context.Context, sink flux.Sink) {
		sink.Next(request("topic."+room, object{
			"name": c.name, "from": c.from, "receive": "both", "start": true, "live": true,
		}))
		opened <- sink
	})
	items, events := make(chan item), make(chan item)
	receive(ctx, client.RequestChannel(sending), items, ended)
	receive(ctx, client.RequestStream(request("presence."+room, object{})), events, ended)
	sink := <-opened
	for _, l := range c.outbox {
		sink.Next(l.payload())
	}

	isLive, isOver := false, false
	for !isOver || !isLive || len(c.outbox) > 0 {
		// No more is read than can be waiting for its answer.
		typed := c.typed
		if isOver || len(c.outbox) == outbox {
			typed = nil
		}
		select {
		case said := <-items:
			isLive = isLive || said.Live != nil
			c.show(said)
		case said := <-events:
			c.showPresence(said)
		case text, ok := <-typed:
			if !ok {
				isOver = true
				continue
			}
			l := line{newID(), text}
			c.outbox = append(c.outbox, l)
			sink.Next(l.payload())
		case err := <-ended:
			return err
		}
	}
	return nil
}

// receive hands over a stream's items, and asks for the next ones when those before have been taken.
func receive(ctx context.Context, stream flux.Flux, into chan<- item, ended chan<- error) {
	var subscription rx.Subscription
	came := 0
	stream.Subscribe(ctx,
		rx.OnSubscribe(func(_ context.Context, s rx.Subscription) {
			subscription = s
			subscription.Request(batch)
		}),
		rx.OnNext(func(p payload.Payload) error {
			select {
			case into <- beside(p):
			case <-ctx.Done():
				return ctx.Err()
			}
			if came++; came%batch == 0 {
				subscription.Request(batch)
			}
			return nil
		}),
		rx.OnError(func(err error) {
			select {
			case ended <- err:
			default:
			}
		}),
	)
}

func (c *chat) show(said item) {
	answer := ""
	switch {
	case said.Gap != nil && said.Gap.To > 0:
		fmt.Printf("* messages %d to %d are not kept any more\n", said.Gap.From, said.Gap.To)
	case said.Gap != nil:
		fmt.Println("* the room began anew")
	case said.Start != nil:
		// A position is there before the first message is.
		c.from = object{"epoch": said.Start.Epoch, "after": said.Start.Next - 1}
	case said.Ack != nil:
		answer = said.Ack.ID
	case said.Refused != nil:
		fmt.Printf("* not published: %s\n", said.Refused.Reason)
		answer = said.Refused.ID
	case said.Own:
		answer = said.ID
	case said.Offset > 0 && said.From == "":
		fmt.Printf("somebody: %s\n", said.data)
	case said.Offset > 0:
		fmt.Printf("%s: %s\n", said.From, said.data)
	}
	if said.Offset > 0 {
		c.from = object{"epoch": said.Epoch, "after": said.Offset}
	}
	// The answers come in the order of what we have sent: the message itself, or that it was known or refused.
	if len(c.outbox) > 0 && answer == c.outbox[0].id {
		c.outbox = c.outbox[1:]
	}
}

func (c *chat) showPresence(said item) {
	does := map[string]string{"here": "is here", "join": "joins", "leave": "leaves"}[said.Event]
	if does != "" && said.Name != c.name {
		fmt.Printf("* %s %s\n", said.Name, does)
	}
}

// beside is an item with what the service says of it. The library takes the payload back: the data are a copy.
func beside(p payload.Payload) (said item) {
	metadata, _ := p.Metadata()
	entries := extension.NewCompositeMetadataBytes(metadata).Scanner()
	for entries.Scan() {
		mime, content, err := entries.Metadata()
		if err == nil && mime == extension.ApplicationJSON.String() {
			err = json.Unmarshal(content, &said)
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, "* not understood:", err)
			break
		}
	}
	said.data = strings.Clone(p.DataUTF8())
	return said
}

func (l line) payload() payload.Payload {
	id := encoded(object{"id": l.id})
	return payload.New([]byte(l.text), metadata(extension.ApplicationJSON, id))
}

func request(route string, options object) payload.Payload {
	tags, err := extension.EncodeRouting(route)
	if err != nil {
		panic(err) // It is too long for a route.
	}
	return payload.New(encoded(options), metadata(extension.MessageRouting, tags))
}

// metadata is composite metadata of one entry.
func metadata(mime extension.MIME, content []byte) []byte {
	entries, err := extension.NewCompositeMetadataBuilder().PushWellKnown(mime, content).Build()
	if err != nil {
		panic(err) // It is too long for an entry.
	}
	return entries
}

func encoded(value object) []byte {
	text, err := json.Marshal(value)
	if err != nil {
		panic(err) // It has a value that is none of JSON.
	}
	return text
}

func newID() string {
	random := make([]byte, 16)
	if _, err := rand.Read(random); err != nil {
		panic(err) // The system has no randomness.
	}
	return fmt.Sprintf("%x", random)
}
