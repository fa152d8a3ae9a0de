// rsocket-go as a client of rsockd: client URI [CASE...]
//
// One line a case on stdout, as lib/cases.mjs has them; without names all cases of a plain service
// run. Exit code 1 when a case failed.
package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rsocket/rsocket-go"
	"github.com/rsocket/rsocket-go/core/transport"
	"github.com/rsocket/rsocket-go/lease"
	"github.com/rsocket/rsocket-go/logger"
	"github.com/rsocket/rsocket-go/payload"
	"github.com/rsocket/rsocket-go/rx"
	"github.com/rsocket/rsocket-go/rx/flux"

	"rsock/interop/wire"
)

const (
	caseLimit = 10 * time.Second
	batch     = 4
)

type testCase struct {
	name string
	// Whether it runs only when it is named.
	special bool
	// Whether the service is to close the connection.
	rejected bool
	setup    func(rsocket.ClientBuilder) rsocket.ClientBuilder
	body     func(*connection) error
}

var cases = []testCase{
	{name: "rr-echo", body: rrEcho},
	{name: "rr-metadata", body: rrMetadata},
	{name: "rr-metadata-only", body: rrMetadataOnly},
	{name: "rr-1mib", body: rr1MiB},
	{name: "rr-1mib-in-fragments", setup: fragmenting, body: rr1MiB},
	{name: "rr-empty", body: rrEmpty},
	{name: "rr-empty-no-route", body: rrEmptyNoRoute},
	{name: "rs-range", body: rsRange},
	{name: "rs-cancel", body: rsCancel},
	{name: "rc-echo", body: rcEcho},
	{name: "fnf", body: fnf},
	{name: "metadata-push", body: metadataPush},
	{name: "unknown-route", body: unknownRoute},
	{name: "keepalive", setup: eager, body: keepalive},
	{name: "status", body: status},
	{name: "routes", body: routes},
	{name: "topic-publish", body: topicPublish},
	{name: "topic-subscribe", body: topicSubscribe},
	{name: "topic-gap", body: topicGap},
	{name: "topic-join", body: topicJoin},
	{name: "rs-20mib", special: true, body: rs20MiB},
	{name: "lease", special: true, setup: leasing, body: leased},
	{name: "frames", special: true, setup: framing, body: frames},
	{name: "frames-resumable", special: true, setup: resuming, body: framesResumable},
	{name: "frames-rejected", special: true, setup: rejected, body: framesRejected},
	{name: "setup-rejected", special: true, rejected: true, setup: rejected, body: isRejected("no entry")},
	// The credentials in SETUP are wrong.
	{name: "setup-refused", special: true, rejected: true, body: isRejected("authentication failed")},
}

func fragmenting(b rsocket.ClientBuilder) rsocket.ClientBuilder { return b.Fragment(4_096) }

func eager(b rsocket.ClientBuilder) rsocket.ClientBuilder {
	return b.KeepAlive(200*time.Millisecond, time.Second, 1)
}

func leasing(b rsocket.ClientBuilder) rsocket.ClientBuilder { return b.Lease() }

func framing(b rsocket.ClientBuilder) rsocket.ClientBuilder {
	setup := payload.New([]byte("setup"), wire.Metadata("setup"))
	return b.KeepAlive(300*time.Millisecond, 3*time.Second, 1).Fragment(64).SetupPayload(setup).Lease()
}

func resuming(b rsocket.ClientBuilder) rsocket.ClientBuilder {
	return b.KeepAlive(100*time.Millisecond, 30*time.Second, 1).Resume(
		rsocket.WithClientResumeToken(func() []byte { return []byte("interop-go") }))
}

func rejected(b rsocket.ClientBuilder) rsocket.ClientBuilder {
	return b.SetupPayload(payload.NewString("reject", ""))
}

func main() {
	logger.SetLevel(logger.LevelError)
	if len(os.Args) < 2 {
		fmt.Fprintln(os.Stderr, "usage: client (tcp|tls)://HOST:PORT|(ws|wss)://HOST:PORT/PATH [CASE ...]")
		os.Exit(2)
	}
	named := map[string]bool{}
	for _, name := range os.Args[2:] {
		named[name] = true
	}
	failed := false
	for _, c := range cases {
		if named[c.name] || len(named) == 0 && !c.special {
			if err := runCase(os.Args[1], c); err != nil {
				failed = true
				text := strings.Join(strings.Fields(err.Error()), " ")
				fmt.Printf("FAIL %s: %.300s\n", c.name, text)
			} else {
				fmt.Printf("ok %s\n", c.name)
			}
		}
	}
	if failed {
		os.Exit(1)
	}
}

func runCase(uri string, c testCase) error {
	ctx, cancel := context.WithTimeout(context.Background(), caseLimit)
	defer cancel()
	closed := make(chan error, 1)
	connected, err := connect(ctx, uri, c.setup, closed)
	if err != nil {
		return err
	}
	defer connected.client.Close()
	ended := connected.closed
	if c.rejected {
		// It is for the case to judge.
		ended = nil
	}
	done := make(chan error, 1)
	go func() { done <- c.body(connected) }()
	select {
	case err = <-done:
		return err
	case err = <-ended:
		// Whatever the case waits for, it will not come over a closed connection.
		return fmt.Errorf("the connection was closed: %v", err)
	case <-ctx.Done():
		return fmt.Errorf("no end after %v", caseLimit)
	}
}

// A client, and what came over its line.
type connection struct {
	ctx     context.Context
	client  rsocket.Client
	uri     string
	bytesIn *int64
	// How it ended, once.
	closed <-chan error
}

// A connection that counts what it reads.
type counting struct {
	net.Conn
	bytes *int64
}

func (c counting) Read(into []byte) (int, error) {
	n, err := c.Conn.Read(into)
	atomic.AddInt64(c.bytes, int64(n))
	return n, err
}

// relay passes one connection on to the address, counting; the library lets nobody see a
// WebSocket's bytes, nor those behind TLS. Gives where it listens.
func relay(address string, bytes *int64) (string, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	go func() {
		defer listener.Close()
		client, err := listener.Accept()
		if err != nil {
			return
		}
		defer client.Close()
		server, err := net.Dial("tcp", address)
		if err != nil {
			return
		}
		defer server.Close()
		go func() {
			_, _ = io.Copy(server, client)
			server.Close()
		}()
		_, _ = io.Copy(client, counting{server, bytes})
	}()
	return listener.Addr().String(), nil
}

// trusting trusts the runner's authority, or without one those that Go does.
func trusting() (*tls.Config, error) {
	secured := &tls.Config{ServerName: "localhost"}
	if path := os.Getenv("INTEROP_CA"); path != "" {
		text, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		secured.RootCAs = x509.NewCertPool()
		secured.RootCAs.AppendCertsFromPEM(text)
	}
	return secured, nil
}

// introduction is what SETUP says about who it is, if the runner asks for it.
func introduction() payload.Payload {
	switch parts := strings.Split(os.Getenv("INTEROP_AUTH"), ":"); parts[0] {
	case "simple":
		return payload.New(nil, wire.Simple(parts[1], parts[2]))
	case "bearer":
		return payload.New(nil, wire.Bearer(parts[1]))
	default:
		return nil
	}
}

func connect(
	ctx context.Context,
	uri string,
	setup func(rsocket.ClientBuilder) rsocket.ClientBuilder,
	closed chan error,
) (*connection, error) {
	where, err := url.Parse(uri)
	if err != nil {
		return nil, err
	}
	bytesIn := new(int64)
	if where.Scheme != "tcp" {
		if where.Host, err = relay(where.Host, bytesIn); err != nil {
			return nil, err
		}
	}
	var over transport.ClientTransporter
	switch where.Scheme {
	case "ws":
		over = rsocket.WebsocketClient().SetURL(where.String()).Build()
	case "wss":
		secured, err := trusting()
		if err != nil {
			return nil, err
		}
		over = rsocket.WebsocketClient().SetURL(where.String()).SetTLSConfig(secured).Build()
	case "tls":
		secured, err := trusting()
		if err != nil {
			return nil, err
		}
		over = rsocket.TCPClient().SetAddr(where.Host).SetTLSConfig(secured).Build()
	default:
		over = func(context.Context) (*transport.Transport, error) {
			dialled, err := net.Dial("tcp", where.Host)
			if err != nil {
				return nil, err
			}
			return transport.NewTCPClientTransport(counting{dialled, bytesIn}), nil
		}
	}
	builder := rsocket.Connect().
		DataMimeType(wire.Octets).
		MetadataMimeType(wire.Composite).
		KeepAlive(5*time.Second, 30*time.Second, 1).
		OnClose(func(err error) { closed <- err })
	if introduced := introduction(); introduced != nil {
		builder = builder.SetupPayload(introduced)
	}
	if setup != nil {
		builder = setup(builder)
	}
	client, err := builder.Transport(over).Start(ctx)
	if err != nil {
		return nil, err
	}
	return &connection{ctx, client, uri, bytesIn, closed}, nil
}

func (c *connection) request(request payload.Payload) (payload.Payload, error) {
	return c.client.RequestResponse(request).Block(c.ctx)
}

func (c *connection) expect(request payload.Payload, data string) error {
	answer, err := c.request(request)
	if err != nil {
		return err
	}
	if answer.DataUTF8() != data {
		return fmt.Errorf("the answer is %q", answer.DataUTF8())
	}
	return nil
}

// roundTrip is a barrier: what the service had to say before has been said by then.
func (c *connection) roundTrip() error {
	return c.expect(wire.Routed("echo", "round trip"), "round trip")
}

// inbox is what arrived on a stream, and how it ended. What comes beyond the credit the library
// keeps to itself.
type inbox struct {
	mutex    sync.Mutex
	changed  *sync.Cond
	items    []string
	metadata [][]byte
	done     bool
	err      error
	first    int
	batch    int
	// Where it asks for no more, if anywhere.
	limit        int
	cancelAfter  int
	subscription rx.Subscription
}

// inBatches asks for the next batch when one is there. From another goroutine the library can miss
// it: then items that have come are never handed over.
func inBatches() *inbox {
	i := newInbox(batch, 0)
	i.batch = batch
	return i
}

func newInbox(first, cancelAfter int) *inbox {
	i := &inbox{first: first, cancelAfter: cancelAfter}
	i.changed = sync.NewCond(&i.mutex)
	return i
}

func (i *inbox) OnSubscribe(_ context.Context, subscription rx.Subscription) {
	i.subscription = subscription
	subscription.Request(i.first)
}

func (i *inbox) OnNext(item payload.Payload) {
	i.mutex.Lock()
	defer i.mutex.Unlock()
	i.items = append(i.items, strings.Clone(item.DataUTF8()))
	metadata, _ := item.Metadata()
	i.metadata = append(i.metadata, append([]byte(nil), metadata...))
	if len(i.items) == i.cancelAfter {
		i.subscription.Cancel()
	}
	if i.batch > 0 && len(i.items)%i.batch == 0 && len(i.items) != i.limit {
		i.subscription.Request(i.batch)
	}
	i.changed.Broadcast()
}

func (i *inbox) OnError(err error) { i.end(err) }

func (i *inbox) OnComplete() { i.end(nil) }

func (i *inbox) end(err error) {
	i.mutex.Lock()
	defer i.mutex.Unlock()
	i.done, i.err = true, err
	i.changed.Broadcast()
}

func (i *inbox) has(count int) error {
	i.mutex.Lock()
	defer i.mutex.Unlock()
	for !i.done && len(i.items) < count {
		i.changed.Wait()
	}
	return i.err
}

func (i *inbox) holds(expected []string) error {
	if strings.Join(i.items, ",") != strings.Join(expected, ",") {
		return fmt.Errorf("the items are %v", i.items)
	}
	return nil
}

func upTo(end int) (numbers []string) {
	for i := 0; i < end; i++ {
		numbers = append(numbers, strconv.Itoa(i))
	}
	return
}

func rrEcho(c *connection) error {
	return c.expect(wire.Routed("echo", "hello, wörld"), "hello, wörld")
}

func rrMetadata(c *connection) error {
	metadata := wire.Metadata("echo", "metadata comes back")
	answer, err := c.request(payload.New([]byte("data"), metadata))
	if err != nil {
		return err
	}
	if back, _ := answer.Metadata(); !bytes.Equal(back, metadata) {
		return fmt.Errorf("the metadata is %x", back)
	}
	return nil
}

func rrMetadataOnly(c *connection) error {
	metadata := wire.Metadata("echo", "metadata alone")
	answer, err := c.request(payload.New(nil, metadata))
	if err != nil {
		return err
	}
	if len(answer.Data()) != 0 {
		return fmt.Errorf("the data is %q", answer.DataUTF8())
	}
	if back, _ := answer.Metadata(); !bytes.Equal(back, metadata) {
		return fmt.Errorf("the metadata is %x", back)
	}
	return nil
}

func rr1MiB(c *connection) error {
	data := make([]byte, 1<<20)
	for i := range data {
		data[i] = byte(i*31 + i>>8)
	}
	answer, err := c.request(payload.New(data, wire.Metadata("echo")))
	if err != nil {
		return err
	}
	if !bytes.Equal(answer.Data(), data) {
		return fmt.Errorf("%d bytes came back, or others", len(answer.Data()))
	}
	return nil
}

func rrEmpty(c *connection) error { return c.expect(wire.Routed("echo", ""), "") }

func rrEmptyNoRoute(c *connection) error { return c.expect(payload.New(nil, nil), "") }

func rsRange(c *connection) error {
	i := inBatches()
	c.client.RequestStream(wire.Routed("range", `{"from":0,"to":100}`)).SubscribeWith(c.ctx, i)
	if err := i.has(101); err != nil {
		return err
	}
	return i.holds(upTo(100))
}

// Larger than a frame can be, so it comes in fragments; rsockd gives no item of that size.
func rs20MiB(c *connection) error {
	const size = 20 << 20
	i := inBatches()
	request := fmt.Sprintf(`{"from":0,"to":1,"size":%d}`, size)
	c.client.RequestStream(wire.Routed("range", request)).SubscribeWith(c.ctx, i)
	if err := i.has(2); err != nil {
		return err
	}
	if len(i.items) != 1 {
		return fmt.Errorf("%d items came", len(i.items))
	}
	if i.items[0] != "0"+strings.Repeat(" ", size-1) {
		return fmt.Errorf("%d bytes came, or others", len(i.items[0]))
	}
	return nil
}

// Unlimited credit and no end: after the cancel the line must fall silent, which shows as 20 round
// trips in a row with next to nothing in between.
func rsCancel(c *connection) error {
	i := newInbox(rx.RequestMax, 10)
	c.client.RequestStream(wire.Routed("range", `{"from":0}`)).SubscribeWith(c.ctx, i)
	if err := i.has(10); err != nil && !errors.Is(err, context.Canceled) {
		if i.holds(upTo(10)) != nil {
			return err
		}
	}
	before := atomic.LoadInt64(c.bytesIn)
	for trips, quiet := 0, 0; quiet < 20; trips++ {
		if trips == 200 {
			return errors.New("items still come 200 round trips after the cancel")
		}
		if err := c.roundTrip(); err != nil {
			return err
		}
		now := atomic.LoadInt64(c.bytesIn)
		if now-before <= 256 {
			quiet++
		} else {
			quiet = 0
		}
		before = now
	}
	return i.holds(upTo(10))
}

func rcEcho(c *connection) error {
	var items []payload.Payload
	var texts []string
	for i := 0; i < 50; i++ {
		text := fmt.Sprintf("item %d", i)
		texts = append(texts, text)
		if i == 0 {
			items = append(items, wire.Routed("echo", text))
		} else {
			items = append(items, payload.New([]byte(text), nil))
		}
	}
	i := inBatches()
	c.client.RequestChannel(flux.Just(items...)).SubscribeWith(c.ctx, i)
	if err := i.has(51); err != nil {
		return err
	}
	return i.holds(texts)
}

func fnf(c *connection) error {
	c.client.FireAndForget(wire.Routed("echo", "forget me"))
	return c.roundTrip()
}

func metadataPush(c *connection) error {
	c.client.MetadataPush(payload.New(nil, wire.Metadata("echo")))
	return c.roundTrip()
}

func unknownRoute(c *connection) error {
	route := "no.such.route"
	_, err := c.request(wire.Routed(route, "x"))
	var failure rsocket.Error
	if !errors.As(err, &failure) {
		return fmt.Errorf("no error of the protocol: %v", err)
	}
	if failure.ErrorCode() != rsocket.ErrorCodeRejected {
		return fmt.Errorf("the code is %v", failure.ErrorCode())
	}
	if !strings.Contains(string(failure.ErrorData()), route) {
		return fmt.Errorf("it does not name the route: %s", failure.ErrorData())
	}
	return c.roundTrip()
}

// The one case where time is the point.
func keepalive(c *connection) error {
	if err := c.roundTrip(); err != nil {
		return err
	}
	before := atomic.LoadInt64(c.bytesIn)
	time.Sleep(1500 * time.Millisecond)
	if answered := atomic.LoadInt64(c.bytesIn) - before; answered < 3*14 {
		return fmt.Errorf("only %d bytes came in 1.5 s of silence", answered)
	}
	return c.roundTrip()
}

func status(c *connection) error { return answerHas(c, "status", `"version"`) }

func routes(c *connection) error { return answerHas(c, "routes", "echo", "range") }

func answerHas(c *connection, route string, parts ...string) error {
	answer, err := c.request(wire.Routed(route, ""))
	if err != nil {
		return err
	}
	for _, part := range parts {
		if !strings.Contains(answer.DataUTF8(), part) {
			return fmt.Errorf("no %s in %s", part, answer.DataUTF8())
		}
	}
	return nil
}

// More requests than a lease allows. The library fails what it has no permit for.
func leased(c *connection) error {
	for i := 0; i < 100; {
		err := c.expect(wire.Routed("echo", strconv.Itoa(i)), strconv.Itoa(i))
		switch {
		case err == nil:
			i++
		case errors.Is(err, lease.ErrLeaseNotRcv), errors.Is(err, lease.ErrLeaseExpired),
			errors.Is(err, lease.ErrLeaseNoMoreRequests):
			time.Sleep(time.Millisecond)
		default:
			return err
		}
	}
	return nil
}

// frames makes the library write a frame of every kind, for whoever records them.
func frames(c *connection) error {
	for c.roundTrip() != nil && c.ctx.Err() == nil {
		time.Sleep(10 * time.Millisecond)
	}
	_, _ = c.request(payload.New([]byte("hello"), wire.Metadata("echo", "a text")))
	_, _ = c.request(wire.Routed("echo", strings.Repeat("0123456789", 15)))
	i := newInbox(2, 5)
	c.client.RequestStream(wire.Routed("range", `{"from":0}`)).SubscribeWith(c.ctx, i)
	_ = i.has(2)
	i.subscription.Request(3)
	_ = i.has(5)
	whole := newInbox(10, 0)
	c.client.RequestStream(wire.Routed("range", `{"from":0,"to":2}`)).SubscribeWith(c.ctx, whole)
	_ = whole.has(3)
	echoed := newInbox(3, 0)
	outgoing := flux.Just(wire.Routed("echo", "first"), payload.New([]byte("second"), nil))
	c.client.RequestChannel(outgoing).SubscribeWith(c.ctx, echoed)
	_ = echoed.has(3)
	c.client.FireAndForget(wire.Routed("echo", "forget me"))
	_, _ = c.request(wire.Routed("fail", "no tea left"))
	c.client.MetadataPush(payload.New(nil, wire.Metadata("echo")))
	time.Sleep(700 * time.Millisecond)
	return c.roundTrip()
}

// framesResumable lasts while its line is cut; what is lost does not matter.
func framesResumable(c *connection) error {
	i := newInbox(rx.RequestMax, 0)
	c.client.RequestStream(wire.Routed("range", `{"from":0,"to":20000}`)).SubscribeWith(c.ctx, i)
	time.Sleep(2 * time.Second)
	return nil
}

func framesRejected(c *connection) error {
	_ = c.roundTrip()
	return nil
}

// The request waits for the end: the library panics now and then when the end comes while it is being
// sent, or has given the text away.
func isRejected(wanted string) func(*connection) error {
	return func(c *connection) error {
		var failure rsocket.Error
		if err := <-c.closed; !errors.As(err, &failure) {
			return fmt.Errorf("no error of the protocol: %v", err)
		}
		if failure.ErrorCode() != rsocket.ErrorCodeRejectedSetup {
			return fmt.Errorf("the code is %v", failure.ErrorCode())
		}
		if text := string(failure.ErrorData()); text != wanted {
			return fmt.Errorf("it does not say why: %s", text)
		}
		if answer, err := c.request(wire.Routed("echo", "x")); err == nil {
			return fmt.Errorf("a rejected connection answered %q", answer.DataUTF8())
		}
		return nil
	}
}
