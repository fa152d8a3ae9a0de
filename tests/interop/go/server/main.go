// rsocket-go as the peer that serves: server [--resume] [--lease REQUESTS/MILLISECONDS] URI...
//
// Says `listening on URI` for each, `got fnf TEXT` and `got push TEXT` for what has no answer, and
// ends when its stdin does.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"strconv"
	"time"

	"github.com/rsocket/rsocket-go"
	"github.com/rsocket/rsocket-go/core/transport"
	"github.com/rsocket/rsocket-go/lease"
	"github.com/rsocket/rsocket-go/payload"
	"github.com/rsocket/rsocket-go/rx/flux"
	"github.com/rsocket/rsocket-go/rx/mono"

	"rsock/interop/wire"
)

func main() {
	resume := flag.Bool("resume", false, "keep sessions")
	leases := flag.String("lease", "", "REQUESTS/MILLISECONDS")
	mtu := flag.Int("mtu", 0, "bytes of a frame")
	flag.Parse()
	for _, uri := range flag.Args() {
		if err := listen(uri, *resume, *leases, *mtu); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	_, _ = io.Copy(io.Discard, os.Stdin)
}

func listen(uri string, resume bool, leases string, mtu int) error {
	where, err := url.Parse(uri)
	if err != nil {
		return err
	}
	listener, err := net.Listen("tcp", where.Host)
	if err != nil {
		return err
	}
	factory := func(context.Context) (net.Listener, error) { return listener, nil }
	server := rsocket.Receive().Fragment(mtu)
	if resume {
		server = server.Resume(rsocket.WithServerResumeSessionDuration(30 * time.Second))
	}
	if leases != "" {
		var requests uint32
		var milliseconds int
		if _, err := fmt.Sscanf(leases, "%d/%d", &requests, &milliseconds); err != nil {
			return err
		}
		ttl := time.Duration(milliseconds) * time.Millisecond
		given, err := lease.NewSimpleFactory(ttl, ttl, time.Millisecond, requests)
		if err != nil {
			return err
		}
		server = server.Lease(given)
	}
	var over transport.ServerTransporter
	if where.Scheme == "ws" {
		over = func(context.Context) (transport.ServerTransport, error) {
			return transport.NewWebsocketServerTransport(factory, where.Path, nil), nil
		}
	} else {
		over = func(context.Context) (transport.ServerTransport, error) {
			return transport.NewTCPServerTransport(factory), nil
		}
	}
	fmt.Printf("listening on %s://%s%s\n", where.Scheme, listener.Addr(), where.Path)
	go func() {
		err := server.Acceptor(accept).Transport(over).Serve(context.Background())
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}()
	return nil
}

func accept(
	_ context.Context, setup payload.SetupPayload, _ rsocket.CloseableRSocket,
) (rsocket.RSocket, error) {
	if setup.DataUTF8() == "reject" {
		return nil, errors.New("not you")
	}
	return rsocket.NewAbstractSocket(
		rsocket.RequestResponse(requestResponse),
		rsocket.RequestStream(requestStream),
		rsocket.RequestChannel(func(items flux.Flux) flux.Flux {
			return items.Map(func(item payload.Payload) (payload.Payload, error) {
				return payload.Clone(item), nil
			})
		}),
		rsocket.FireAndForget(func(request payload.Payload) {
			fmt.Printf("got fnf %s\n", request.DataUTF8())
		}),
		rsocket.MetadataPush(func(push payload.Payload) {
			metadata, _ := push.MetadataUTF8()
			fmt.Printf("got push %s\n", metadata)
		}),
	), nil
}

func requestResponse(request payload.Payload) mono.Mono {
	switch route := wire.Route(request); route {
	case "echo":
		return mono.Just(payload.Clone(request))
	case "fail":
		return mono.Error(errors.New(request.DataUTF8()))
	default:
		return mono.Error(fmt.Errorf("no route %s", route))
	}
}

func requestStream(request payload.Payload) flux.Flux {
	var wanted struct{ From, To int }
	wanted.To = 1 << 30
	pause := time.Duration(0)
	data := request.DataUTF8()
	switch route := wire.Route(request); route {
	case "range":
		if err := json.Unmarshal([]byte(data), &wanted); err != nil {
			return flux.Error(err)
		}
	case "clock":
		pause = 20 * time.Millisecond
	case "fail":
		return flux.Create(func(_ context.Context, sink flux.Sink) {
			sink.Next(payload.NewString("one", ""))
			sink.Error(errors.New(data))
		})
	default:
		return flux.Error(fmt.Errorf("no route %s", route))
	}
	return flux.Create(func(ctx context.Context, sink flux.Sink) {
		for i := wanted.From; i < wanted.To && ctx.Err() == nil; i++ {
			sink.Next(payload.New([]byte(strconv.Itoa(i)), nil))
			time.Sleep(pause)
		}
		sink.Complete()
	})
}
