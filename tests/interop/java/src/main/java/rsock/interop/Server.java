package rsock.interop;

import io.netty.buffer.ByteBuf;
import io.rsocket.ConnectionSetupPayload;
import io.rsocket.Payload;
import io.rsocket.RSocket;
import io.rsocket.SocketAcceptor;
import io.rsocket.core.RSocketServer;
import io.rsocket.core.Resume;
import io.rsocket.exceptions.ApplicationErrorException;
import io.rsocket.exceptions.RejectedException;
import io.rsocket.exceptions.RejectedSetupException;
import io.rsocket.lease.Lease;
import io.rsocket.transport.netty.server.TcpServerTransport;
import io.rsocket.transport.netty.server.WebsocketServerTransport;
import java.net.URI;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import org.reactivestreams.Publisher;
import reactor.core.publisher.Flux;
import reactor.core.publisher.Mono;
import reactor.core.publisher.SynchronousSink;

/**
 * rsocket-java as the peer that serves.
 *
 * <p>Usage: {@code Server [--resume] [--lease REQUESTS/MILLISECONDS] [--mtu BYTES] URI...}. Says
 * {@code listening on URI} for each, {@code got fnf TEXT} and {@code got push TEXT} for what has no
 * answer, and ends when its stdin does.
 */
public final class Server {
  private static final Pattern RANGE =
      Pattern.compile("\\{\\s*\"from\"\\s*:\\s*(\\d+)(?:\\s*,\\s*\"to\"\\s*:\\s*(\\d+))?\\s*\\}");

  private Server() {}

  public static void main(String[] args) throws Exception {
    var server = RSocketServer.create(SocketAcceptor.with(new Handlers()));
    server.acceptor(Server::accept);
    List<URI> uris = new ArrayList<>();
    for (int i = 0; i < args.length; i++) {
      switch (args[i]) {
        case "--resume" -> server.resume(new Resume().sessionDuration(Duration.ofSeconds(30)));
        case "--mtu" -> server.fragment(Integer.parseInt(args[++i]));
        case "--lease" -> {
          String[] lease = args[++i].split("/");
          int requests = Integer.parseInt(lease[0]);
          Duration ttl = Duration.ofMillis(Long.parseLong(lease[1]));
          Flux<Lease> leases =
              Flux.interval(Duration.ZERO, ttl)
                  .onBackpressureDrop()
                  .map(tick -> Lease.create(ttl, requests));
          server.lease(spec -> spec.sender(() -> leases));
        }
        default -> uris.add(URI.create(args[i]));
      }
    }
    for (URI uri : uris) {
      int port;
      if (uri.getScheme().equals("ws")) {
        var transport = WebsocketServerTransport.create(uri.getHost(), uri.getPort());
        port = server.bindNow(transport).address().getPort();
      } else {
        var transport = TcpServerTransport.create(uri.getHost(), uri.getPort());
        port = server.bindNow(transport).address().getPort();
      }
      say(
          "listening on %s://%s:%d%s"
              .formatted(uri.getScheme(), uri.getHost(), port, uri.getPath()));
    }
    while (System.in.read() >= 0) {}
    System.exit(0);
  }

  private static synchronized void say(String line) {
    System.out.println(line);
  }

  private static Mono<RSocket> accept(ConnectionSetupPayload setup, RSocket peer) {
    if (setup.getDataUtf8().equals("reject")) {
      return Mono.error(new RejectedSetupException("not you"));
    }
    return Mono.just(new Handlers());
  }

  /** Routes as rsockd has them; {@code fail} is the one that fails. */
  private static final class Handlers implements RSocket {
    @Override
    public Mono<Payload> requestResponse(Payload payload) {
      String route = Wire.route(payload);
      if (route == null || route.equals("echo")) {
        return Mono.just(payload);
      }
      if (route.equals("fail")) {
        return Mono.error(new ApplicationErrorException(payload.getDataUtf8()));
      }
      return Mono.error(unknown(route));
    }

    @Override
    public Flux<Payload> requestStream(Payload payload) {
      String route = Wire.route(payload);
      if ("fail".equals(route)) {
        return Flux.just(Wire.payload(Wire.bytes("one"), null))
            .concatWith(Mono.error(new ApplicationErrorException(payload.getDataUtf8())));
      }
      if ("clock".equals(route)) {
        return Flux.interval(Duration.ofMillis(20))
            .onBackpressureDrop()
            .map(tick -> Wire.payload(Wire.bytes(Long.toString(tick)), null));
      }
      Matcher range = RANGE.matcher(payload.getDataUtf8());
      if (!"range".equals(route) || !range.matches()) {
        return Flux.error(unknown(route));
      }
      long from = Long.parseLong(range.group(1));
      long to = range.group(2) == null ? Long.MAX_VALUE : Long.parseLong(range.group(2));
      return Flux.generate(
          () -> from,
          (Long next, SynchronousSink<Payload> sink) -> {
            if (next >= to) {
              sink.complete();
            } else {
              sink.next(Wire.payload(Wire.bytes(Long.toString(next)), null));
            }
            return next + 1;
          });
    }

    @Override
    public Flux<Payload> requestChannel(Publisher<Payload> payloads) {
      return Flux.from(payloads)
          .switchOnFirst(
              (first, all) -> {
                String route = first.hasValue() ? Wire.route(first.get()) : null;
                return route == null || route.equals("echo") ? all : Flux.error(unknown(route));
              });
    }

    @Override
    public Mono<Void> fireAndForget(Payload payload) {
      say("got fnf " + payload.getDataUtf8());
      return Mono.empty();
    }

    @Override
    public Mono<Void> metadataPush(Payload payload) {
      ByteBuf metadata = payload.sliceMetadata();
      say("got push " + metadata.toString(StandardCharsets.UTF_8));
      return Mono.empty();
    }

    private static RejectedException unknown(String route) {
      return new RejectedException("no route " + route);
    }
  }
}
