package rsock.interop;

import io.rsocket.Closeable;
import io.rsocket.RSocket;
import io.rsocket.core.RSocketConnector;
import io.rsocket.test.TestRSocket;
import io.rsocket.transport.ClientTransport;
import io.rsocket.transport.ServerTransport;
import io.rsocket.util.DefaultPayload;
import io.rsocket.util.EmptyPayload;
import java.time.Duration;
import reactor.core.Disposable;
import reactor.core.publisher.Mono;
import reactor.core.publisher.Sinks;

/** The server of a pair, which is a process of its own, and what it has seen. */
final class Remote implements Closeable {
  private final Sinks.Empty<Void> closed = Sinks.empty();
  private final RSocket observer;
  private Seen before;
  private Seen now;
  private Disposable observing;

  /** Interactions so far, and the bytes in their requests. */
  record Seen(long interactions, long dataBytes, long metadataBytes) {
    static Seen parse(String line) {
      String[] words = line.split(" ");
      return new Seen(
          Long.parseLong(words[0]), Long.parseLong(words[1]), Long.parseLong(words[2]));
    }

    Seen since(Seen before) {
      return new Seen(
          interactions - before.interactions,
          dataBytes - before.dataBytes,
          metadataBytes - before.metadataBytes);
    }
  }

  Remote(ClientTransport transport) {
    observer =
        RSocketConnector.create()
            .keepAlive(Duration.ofMinutes(1), Duration.ofMinutes(5))
            .setupPayload(DefaultPayload.create("observer"))
            .connect(transport)
            .block();
  }

  /** Binding to it is all there is to start. */
  ServerTransport<Remote> asTransport() {
    return acceptor -> Mono.just(this);
  }

  /** Shows the pair's own responder, which no one calls, what the server sees from here on. */
  void mirrorTo(TestRSocket responder) {
    var first = Sinks.<Void>empty();
    observing =
        observer
            .requestStream(DefaultPayload.create(""))
            .map(item -> Seen.parse(item.getDataUtf8()))
            .subscribe(seen -> observe(seen, responder, first));
    first.asMono().block();
  }

  private synchronized void observe(Seen seen, TestRSocket responder, Sinks.Empty<Void> first) {
    if (before == null) {
      before = seen;
      first.tryEmitEmpty();
    } else {
      for (long i = now.interactions; i < seen.interactions; i++) {
        responder.fireAndForget(EmptyPayload.INSTANCE).subscribe();
      }
    }
    now = seen;
  }

  synchronized Seen seen() {
    return now.since(before);
  }

  /** How many interactions go on at the server. */
  Mono<Long> active() {
    return figure(0);
  }

  /** How often any client has resumed its session. */
  Mono<Long> resumes() {
    return figure(1);
  }

  private Mono<Long> figure(int index) {
    return Mono.defer(() -> observer.requestResponse(DefaultPayload.create("")))
        .map(answer -> Long.parseLong(answer.getDataUtf8().split(" ")[index]));
  }

  /** Before the schedulers end, which the test does between its cases. */
  void endObserving() {
    observing.dispose();
    observer.dispose();
    observer.onClose().onErrorComplete().block();
  }

  @Override
  public Mono<Void> onClose() {
    return closed.asMono();
  }

  @Override
  public void dispose() {
    closed.tryEmitEmpty();
  }
}
