package main

// The cases of topics, as in lib/topics.mjs; each has a topic of its own.

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/rsocket/rsocket-go"
	"github.com/rsocket/rsocket-go/payload"
	"github.com/rsocket/rsocket-go/rx/flux"

	"rsock/interop/wire"
)

const (
	topicBatch = 3
	nowhere    = "0000000000000000"
)

var epochs = regexp.MustCompile("^[0-9a-f]{16}$")

// acknowledgement is the answer to a publish.
type acknowledgement struct {
	Topic     string `json:"topic"`
	Epoch     string `json:"epoch"`
	Offset    int64  `json:"offset"`
	Duplicate bool   `json:"duplicate"`
}

// beside is what the service says beside an item.
type beside struct {
	acknowledgement
	Time int64  `json:"time"`
	From string `json:"from"`
	Own  bool   `json:"own"`
	ID   string `json:"id"`
	Base int64  `json:"base"`
	// Of the service's own items.
	Start *struct {
		Epoch            string
		Next, Base, Head int64
	}
	Live *struct {
		Epoch  string
		Offset int64
	}
	Gap *struct {
		Epoch    string
		From, To int64
	}
	// Of presence.
	Event, Name string
	Total       int
}

func newTopic() string {
	random := make([]byte, 16)
	if _, err := rand.Read(random); err != nil {
		panic(err)
	}
	return fmt.Sprintf("interop.%x", random)
}

func (c *connection) ask(route, data string, into any) error {
	answer, err := c.request(wire.Routed(route, data))
	if err != nil {
		return err
	}
	return json.Unmarshal(answer.Data(), into)
}

func (c *connection) publish(topic, data, options string) (answer acknowledgement, err error) {
	metadata := wire.RoutedJSON("topic."+topic, options)
	acknowledged, err := c.request(payload.New([]byte(data), metadata))
	if err != nil {
		return answer, err
	}
	return answer, json.Unmarshal(acknowledged.Data(), &answer)
}

func (c *connection) open(route, options string, items *inbox) *inbox {
	c.client.RequestStream(wire.Routed(route, options)).SubscribeWith(c.ctx, items)
	return items
}

// said is what the service says beside each item that has come.
func (i *inbox) said() (all []beside, err error) {
	i.mutex.Lock()
	defer i.mutex.Unlock()
	for _, metadata := range i.metadata {
		var said beside
		if err := json.Unmarshal(wire.JSON(metadata), &said); err != nil {
			return nil, fmt.Errorf("the metadata %q: %w", metadata, err)
		}
		all = append(all, said)
	}
	return all, nil
}

// count is how many items have come.
func (i *inbox) count() int {
	i.mutex.Lock()
	defer i.mutex.Unlock()
	return len(i.items)
}

func (b beside) isMessage(topic string, offset int64, from string) error {
	if b.Topic != topic || b.Offset != offset || b.From != from || b.Time < 1_700_000_000_000 {
		return fmt.Errorf("beside a message: %+v", b)
	}
	return nil
}

// With an id a message is published once, and both acknowledgements say where it is.
func topicPublish(c *connection) error {
	topic := newTopic()
	first, err := c.publish(topic, "once", `{"id":"m-1","from":"ann"}`)
	if err != nil {
		return err
	}
	if first.Topic != topic || !epochs.MatchString(first.Epoch) || first.Duplicate {
		return fmt.Errorf("the acknowledgement is %+v", first)
	}
	again, err := c.publish(topic, "once", `{"id":"m-1","from":"ann"}`)
	if err != nil {
		return err
	}
	if again != (acknowledgement{topic, first.Epoch, first.Offset, true}) {
		return fmt.Errorf("the second acknowledgement is %+v", again)
	}
	expecting := fmt.Sprintf(`{"expect":%d}`, first.Offset)
	second, err := c.publish(topic, "twice", expecting)
	if err != nil {
		return err
	}
	if second.Offset != first.Offset+1 {
		return fmt.Errorf("another message is at %d, behind %d", second.Offset, first.Offset)
	}
	_, err = c.publish(topic, "late", expecting)
	var failure rsocket.Error
	if !errors.As(err, &failure) || failure.ErrorCode() != rsocket.ErrorCodeRejected {
		return fmt.Errorf("what was not expected ended with %v", err)
	}
	if !strings.HasPrefix(string(failure.ErrorData()), "conflict:") {
		return fmt.Errorf("the error is %s", failure.ErrorData())
	}
	var page struct {
		Messages []struct {
			Offset     int64
			From, Text string
		}
	}
	if err := c.ask("history."+topic, `{"limit":10}`, &page); err != nil {
		return err
	}
	wanted := fmt.Sprintf("[{%d ann once} {%d  twice}]", first.Offset, second.Offset)
	if came := fmt.Sprint(page.Messages); came != wanted {
		return fmt.Errorf("the history is %s", came)
	}
	return nil
}

// A start, twelve messages, the word that these are live, and one more, for which there is credit; not for
// those behind it. What comes beyond the credit the library keeps to itself: the other peers look for that.
func topicSubscribe(c *connection) error {
	topic := newTopic()
	var base int64
	var epoch string
	for i := 0; i < 12; i++ {
		answer, err := c.publish(topic, fmt.Sprintf("message %d", i), `{"from":"ann"}`)
		if err != nil {
			return err
		}
		if i == 0 {
			base, epoch = answer.Offset, answer.Epoch
		}
	}
	witness := c.open("topic."+topic, `{"start":true}`, newInbox(100, 0))
	if err := witness.has(1); err != nil {
		return err
	}
	items := newInbox(topicBatch, 0)
	items.batch, items.limit = topicBatch, 15
	c.open("topic."+topic, `{"from":"start","start":true,"live":true}`, items)
	if err := items.has(14); err != nil {
		return err
	}
	for i := 12; i < 15; i++ {
		if _, err := c.publish(topic, fmt.Sprintf("message %d", i), `{"from":"bob"}`); err != nil {
			return err
		}
	}
	if err := witness.has(4); err != nil {
		return err
	}
	if err := items.has(15); err != nil {
		return err
	}
	if err := c.roundTrip(); err != nil {
		return err
	}
	if came := items.count(); came != 15 {
		return fmt.Errorf("%d items came, 15 were asked for", came)
	}
	items.subscription.Cancel()
	witness.subscription.Cancel()

	said, err := items.said()
	if err != nil {
		return err
	}
	head := base + 11
	start, live := said[0].Start, said[13].Live
	if start == nil || start.Epoch != epoch || start.Next != base || start.Base != base || start.Head != head {
		return fmt.Errorf("the start is %+v", said[0])
	}
	if live == nil || live.Epoch != epoch || live.Offset != head {
		return fmt.Errorf("the item that says live is %+v", said[13])
	}
	expected := []string{""}
	for i := 0; i < 13; i++ {
		at, from := i+1, "ann"
		if i == 12 {
			at, from = 14, "bob"
			expected = append(expected, "")
		}
		if err := said[at].isMessage(topic, base+int64(i), from); err != nil {
			return err
		}
		expected = append(expected, fmt.Sprintf("message %d", i))
	}
	return items.holds(expected)
}

// What is not kept any more is told, and also that a position belongs to another life of the topic.
func topicGap(c *connection) error {
	topic := newTopic()
	first, err := c.publish(topic, "lost", `{}`)
	if err != nil {
		return err
	}
	if _, err := c.publish(topic, "lost too", `{}`); err != nil {
		return err
	}
	var purged any
	if err := c.ask("topics", fmt.Sprintf(`{"purge":%q}`, topic), &purged); err != nil {
		return err
	}
	kept, err := c.publish(topic, "kept", `{}`)
	if err != nil {
		return err
	}
	from := func(epoch string, after int64) ([]beside, error) {
		position := fmt.Sprintf(`{"from":{"epoch":%q,"after":%d}}`, epoch, after)
		items := c.open("topic."+topic, position, newInbox(2, 0))
		if err := items.has(2); err != nil {
			return nil, err
		}
		items.subscription.Cancel()
		said, err := items.said()
		if err != nil {
			return nil, err
		}
		return said, said[1].isMessage(topic, kept.Offset, "")
	}
	said, err := from(first.Epoch, first.Offset-1)
	if err != nil {
		return err
	}
	gap := said[0].Gap
	if gap == nil || gap.From != first.Offset || gap.To != kept.Offset-1 || gap.Epoch != "" {
		return fmt.Errorf("the gap is %+v", said[0])
	}
	if said, err = from(nowhere, 7); err != nil {
		return err
	}
	reset := said[0].Gap
	if reset == nil || reset.Epoch != nowhere || reset.From != 8 ||
		said[0].Epoch != first.Epoch || said[0].Base != kept.Offset {
		return fmt.Errorf("the reset is %+v", said[0])
	}
	return nil
}

// A member publishes and receives on one channel, and others see it come and go. The library sends no CANCEL for
// what a channel receives, so its members leave with their connection.
func topicJoin(c *connection) error {
	topic := newTopic()
	watch := c.open("presence."+topic, "{}", newInbox(100, 0))
	if err := watch.has(1); err != nil {
		return err
	}
	member, err := connect(c.ctx, c.uri, nil, make(chan error, 1))
	if err != nil {
		return err
	}
	defer member.client.Close()
	var outgoing flux.Sink
	lines := flux.Create(func(_ context.Context, sink flux.Sink) {
		outgoing = sink
		sink.Next(wire.Routed("topic."+topic, `{"name":"ann","receive":"both","start":true,"info":{"avatar":3}}`))
	})
	items := newInbox(topicBatch, 0)
	member.client.RequestChannel(lines).SubscribeWith(c.ctx, items)
	if err := items.has(1); err != nil {
		return err
	}
	outgoing.Next(payload.New([]byte("hi"), wire.RoutedJSON("", `{"id":"m-1"}`)))
	if err := items.has(2); err != nil {
		return err
	}
	answer, err := c.publish(topic, "hello, ann", `{"from":"bob"}`)
	if err != nil {
		return err
	}
	if err := items.has(3); err != nil {
		return err
	}
	said, err := items.said()
	if err != nil {
		return err
	}
	if said[0].Start == nil || !said[1].Own || said[1].ID != "m-1" || said[2].Own {
		return fmt.Errorf("beside the items: %+v", said)
	}
	if err := said[1].isMessage(topic, answer.Offset-1, "ann"); err != nil {
		return err
	}
	if err := said[2].isMessage(topic, answer.Offset, "bob"); err != nil {
		return err
	}
	if err := items.holds([]string{"", "hi", "hello, ann"}); err != nil {
		return err
	}
	var present struct {
		Members []struct {
			Name     string
			Sessions int
			Info     struct{ Avatar int }
		}
		Total int
	}
	if err := c.ask("presence."+topic, "{}", &present); err != nil {
		return err
	}
	if shown := fmt.Sprint(present); shown != "{[{ann 1 {3}}] 1}" {
		return fmt.Errorf("the members are %s", shown)
	}
	if err := member.client.Close(); err != nil {
		return err
	}
	if err := watch.has(3); err != nil {
		return err
	}
	watch.subscription.Cancel()
	if said, err = watch.said(); err != nil {
		return err
	}
	events := ""
	for _, event := range said {
		events += fmt.Sprintf("%s %s %d,", event.Event, event.Name, event.Total)
	}
	if events != "all  0,join ann 0,leave ann 0," {
		return fmt.Errorf("the events are %s", events)
	}
	return nil
}
