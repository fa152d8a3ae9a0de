package rsock.interop;

import io.netty.buffer.Unpooled;
import io.rsocket.Payload;
import io.rsocket.core.RSocketConnector;
import io.rsocket.core.Resume;
import io.rsocket.exceptions.ApplicationErrorException;
import io.rsocket.exceptions.RejectedException;
import io.rsocket.exceptions.RejectedSetupException;
import io.rsocket.lease.MissingLeaseException;
import io.rsocket.util.DefaultPayload;
import java.time.Duration;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.concurrent.atomic.AtomicLong;
import java.util.function.Supplier;
import java.util.stream.IntStream;
import java.util.stream.LongStream;
import reactor.core.publisher.Flux;
import reactor.core.publisher.Mono;
import reactor.util.retry.Retry;
import rsock.interop.Client.Connection;

/** The cases of lib/cases.mjs, and those that only this peer can run. */
final class Cases {
  private static final int BATCH = 4;
  private static final int RESUMED_ITEMS = 20_000;

  /** What a case does with its connection; blocking is fine. */
  interface Body {
    void run(Connection connection) throws Exception;
  }

  /** With whether the service is to close the connection. */
  record Case(RSocketConnector connector, boolean isRejected, Body body) {
    Case(RSocketConnector connector, Body body) {
      this(connector, false, body);
    }
  }

  /** Against rsockd as it starts by itself. */
  static final Map<String, Case> PLAIN = new LinkedHashMap<>();

  /** Against a service that was started for them, by name only. */
  private static final Map<String, Case> SPECIAL = new TreeMap<>();

  static {
    plain("rr-echo", Cases::rrEcho);
    plain("rr-metadata", Cases::rrMetadata);
    plain("rr-metadata-only", Cases::rrMetadataOnly);
    plain("rr-1mib", Cases::rr1MiB);
    PLAIN.put("rr-1mib-in-fragments", new Case(patient().fragment(4_096), Cases::rr1MiB));
    plain("rr-empty", Cases::rrEmpty);
    plain("rr-empty-no-route", Cases::rrEmptyNoRoute);
    plain("rs-range", Cases::rsRange);
    plain("rs-cancel", Cases::rsCancel);
    plain("rc-echo", Cases::rcEcho);
    plain("fnf", Cases::fnf);
    plain("metadata-push", Cases::metadataPush);
    plain("unknown-route", Cases::unknownRoute);
    var eager =
        RSocketConnector.create().keepAlive(Duration.ofMillis(200), Duration.ofSeconds(1));
    PLAIN.put("keepalive", new Case(eager, Cases::keepalive));
    plain("status", Cases::status);
    plain("routes", Cases::routes);
    plain("topic-publish", Topics::publishOnce);
    plain("topic-subscribe", Topics::subscribe);
    plain("topic-gap", Topics::gap);
    plain("topic-join", Topics::join);

    var resume =
        new Resume()
            .sessionDuration(Duration.ofSeconds(30))
            .token(() -> Unpooled.copiedBuffer(Wire.bytes("interop-" + System.nanoTime())))
            .retry(Retry.fixedDelay(1_000, Duration.ofMillis(10)));
    Supplier<RSocketConnector> resuming =
        () ->
            RSocketConnector.create()
                .keepAlive(Duration.ofMillis(100), Duration.ofSeconds(30))
                .resume(resume);
    SPECIAL.put("resume-stream", new Case(resuming.get(), Cases::resumeStream));
    SPECIAL.put("resume-leased", new Case(resuming.get().lease(), Cases::resumeStream));
    SPECIAL.put("rs-20mib", new Case(patient(), Cases::rs20MiB));
    SPECIAL.put("lease", new Case(patient().lease(), Cases::lease));
    var queueless = patient().lease(spec -> spec.maxPendingRequests(0));
    SPECIAL.put("lease-runs-out", new Case(queueless, Cases::leaseRunsOut));
    var framing =
        RSocketConnector.create()
            .keepAlive(Duration.ofMillis(300), Duration.ofSeconds(3))
            .fragment(64)
            .lease()
            .setupPayload(Wire.payload(Wire.bytes("setup"), Wire.metadata("setup")));
    SPECIAL.put("frames", new Case(framing, Cases::frames));
    Supplier<RSocketConnector> rejected =
        () -> patient().setupPayload(DefaultPayload.create("reject"));
    SPECIAL.put("frames-rejected", new Case(rejected.get(), Cases::framesRejected));
    SPECIAL.put("setup-rejected", new Case(rejected.get(), true, c -> isRejected(c, "no entry")));
    // The credentials in SETUP are wrong.
    SPECIAL.put(
        "setup-refused", new Case(patient(), true, c -> isRejected(c, "authentication failed")));
  }

  private Cases() {}

  static Case find(String name) {
    return PLAIN.getOrDefault(name, SPECIAL.get(name));
  }

  private static void plain(String name, Body body) {
    PLAIN.put(name, new Case(patient(), body));
  }

  private static RSocketConnector patient() {
    return RSocketConnector.create().keepAlive(Duration.ofSeconds(5), Duration.ofSeconds(30));
  }

  static void check(boolean condition, String otherwise, Object... values) {
    if (!condition) {
      throw new AssertionError(otherwise.formatted(values));
    }
  }

  static String request(Connection connection, String route, String data) {
    return connection.rsocket().requestResponse(Wire.routed(route, data)).block().getDataUtf8();
  }

  /** A barrier: what the service had to say before has been said by then. */
  static void roundTrip(Connection connection) {
    String answer = request(connection, "echo", "round trip");
    check(answer.equals("round trip"), "echo answered %s", answer);
  }

  private static void rrEcho(Connection connection) {
    String answer = request(connection, "echo", "hello, wörld");
    check(answer.equals("hello, wörld"), "echo answered %s", answer);
  }

  private static void rrMetadata(Connection connection) {
    byte[] metadata = Wire.metadata("echo", "metadata comes back");
    Payload answer =
        connection.rsocket().requestResponse(Wire.payload(Wire.bytes("data"), metadata)).block();
    check(answer.getDataUtf8().equals("data"), "the data is %s", answer.getDataUtf8());
    check(answer.hasMetadata(), "no metadata came back");
    check(Arrays.equals(Wire.bytes(answer.getMetadata()), metadata), "the metadata differs");
  }

  private static void rrMetadataOnly(Connection connection) {
    byte[] metadata = Wire.metadata("echo", "metadata alone");
    Payload answer =
        connection.rsocket().requestResponse(Wire.payload(new byte[0], metadata)).block();
    check(answer != null, "it completed without an answer");
    check(answer.data().readableBytes() == 0, "data came: %s", answer.getDataUtf8());
    check(answer.hasMetadata(), "no metadata came back");
    check(Arrays.equals(Wire.bytes(answer.getMetadata()), metadata), "the metadata differs");
  }

  private static void rr1MiB(Connection connection) {
    byte[] data = new byte[1 << 20];
    for (int i = 0; i < data.length; i++) {
      data[i] = (byte) (i * 31 + (i >> 8));
    }
    Payload request = Wire.payload(data, Wire.metadata("echo"));
    Payload answer = connection.rsocket().requestResponse(request).block();
    check(answer.data().readableBytes() == data.length, "%s bytes came back", answer.data());
    check(Arrays.equals(Wire.bytes(answer.getData()), data), "the bytes of the answer differ");
  }

  private static void rrEmpty(Connection connection) {
    String answer = request(connection, "echo", "");
    check(answer.isEmpty(), "echo answered %s", answer);
  }

  private static void rrEmptyNoRoute(Connection connection) {
    Payload answer = connection.rsocket().requestResponse(DefaultPayload.create("")).block();
    check(answer != null, "it completed without an answer");
    check(answer.data().readableBytes() == 0, "data came: %s", answer.getDataUtf8());
    check(!answer.hasMetadata(), "metadata came");
  }

  /**
   * Takes a stream to its end, asking for BATCH at a time and only after all that was asked for has
   * come and a round trip has shown that no more did.
   */
  private static void drainInBatches(Connection connection, Inbox inbox) throws Exception {
    for (int asked = BATCH; ; asked += BATCH) {
      inbox.awaitItems(asked);
      roundTrip(connection);
      int came = inbox.texts().size();
      check(came <= asked, "%d items came, %d were asked for", came, asked);
      if (inbox.isDone()) {
        return;
      }
      inbox.request(BATCH);
    }
  }

  private static void rsRange(Connection connection) throws Exception {
    var inbox = new Inbox(BATCH, Integer.MAX_VALUE);
    connection
        .rsocket()
        .requestStream(Wire.routed("range", "{\"from\":0,\"to\":100}"))
        .subscribe(inbox);
    drainInBatches(connection, inbox);
    check(inbox.texts().equals(upTo(100)), "the items are %s", inbox.texts());
  }

  // Larger than a frame can be, so it comes in fragments; rsockd gives no item of that size.
  private static void rs20MiB(Connection connection) {
    int size = 20 << 20;
    var request = Wire.routed("range", "{\"from\":0,\"to\":1,\"size\":%d}".formatted(size));
    List<byte[]> items =
        connection
            .rsocket()
            .requestStream(request)
            .map(item -> Wire.bytes(item.getData()))
            .collectList()
            .block();
    check(items.size() == 1, "%d items came", items.size());
    byte[] expected = new byte[size];
    Arrays.fill(expected, (byte) ' ');
    expected[0] = '0';
    check(items.get(0).length == size, "%d bytes came", items.get(0).length);
    check(Arrays.equals(items.get(0), expected), "the bytes of the item differ");
  }

  // Unlimited credit and no end: after the cancel the line must fall silent, which shows as 20
  // round trips in a row with next to nothing in between.
  private static void rsCancel(Connection connection) throws Exception {
    var inbox = new Inbox(Long.MAX_VALUE, 10);
    connection.rsocket().requestStream(Wire.routed("range", "{\"from\":0}")).subscribe(inbox);
    inbox.awaitItems(10);
    roundTrip(connection);
    long before = connection.bytesIn();
    for (int trips = 0, quiet = 0; quiet < 20; trips++) {
      check(trips < 200, "items still come 200 round trips after the cancel");
      roundTrip(connection);
      quiet = connection.bytesIn() - before <= 256 ? quiet + 1 : 0;
      before = connection.bytesIn();
    }
    check(!inbox.isDone(), "the stream ended by itself");
    check(inbox.texts().equals(upTo(10)), "the items are %s", inbox.texts());
  }

  private static void rcEcho(Connection connection) throws Exception {
    List<String> items = IntStream.range(0, 50).mapToObj(i -> "item " + i).toList();
    var granted = new AtomicLong();
    // The library's own first request is for the payload that opens the channel.
    Flux<Payload> outgoing =
        Flux.fromIterable(items)
            .map(
                text ->
                    text.equals("item 0")
                        ? Wire.routed("echo", text)
                        : DefaultPayload.create(text))
            .doOnRequest(granted::addAndGet);
    var inbox = new Inbox(BATCH, Integer.MAX_VALUE);
    connection.rsocket().requestChannel(outgoing).subscribe(inbox);
    drainInBatches(connection, inbox);
    check(granted.get() > 1, "the service never gave credit");
    check(inbox.texts().equals(items), "the items are %s", inbox.texts());
  }

  private static void fnf(Connection connection) {
    connection.rsocket().fireAndForget(Wire.routed("echo", "forget me")).block();
    roundTrip(connection);
  }

  private static void metadataPush(Connection connection) {
    connection.rsocket().metadataPush(Wire.payload(new byte[0], Wire.metadata("echo"))).block();
    roundTrip(connection);
  }

  private static void unknownRoute(Connection connection) {
    String route = "no.such.route";
    try {
      request(connection, route, "x");
    } catch (RejectedException error) {
      check(error.getMessage().contains(route), "it does not name the route: %s", error);
      roundTrip(connection);
      return;
    }
    throw new AssertionError("an unknown route was answered");
  }

  // The one case where time is the point.
  private static void keepalive(Connection connection) throws Exception {
    roundTrip(connection);
    long before = connection.bytesIn();
    Thread.sleep(1_500);
    long answered = connection.bytesIn() - before;
    check(answered >= 3 * 14, "only %d bytes came in 1.5 s of silence", answered);
    roundTrip(connection);
  }

  private static void status(Connection connection) {
    String answer = request(connection, "status", "");
    check(answer.startsWith("{") && answer.contains("\"version\""), "status answered %s", answer);
  }

  private static void routes(Connection connection) {
    String answer = request(connection, "routes", "");
    check(answer.contains("echo") && answer.contains("range"), "routes answered %s", answer);
  }

  // Both directions have frames to lose: the items come under credit, 256 at a time, and requests
  // go out one after the other meanwhile. Whoever starts this cuts the line under it.
  private static void resumeStream(Connection connection) {
    var next = new AtomicInteger();
    var request = Wire.routed("range", "{\"from\":0,\"to\":%d}".formatted(RESUMED_ITEMS));
    Mono<Void> items =
        connection
            .rsocket()
            .requestStream(request)
            .limitRate(256)
            .doOnNext(
                item -> {
                  String expected = Integer.toString(next.getAndIncrement());
                  String came = item.getDataUtf8();
                  check(came.equals(expected), "%s came, %s was next", came, expected);
                })
            .then();
    Mono<Void> echoes =
        Flux.range(0, 200)
            .concatMap(
                i ->
                    connection
                        .rsocket()
                        .requestResponse(Wire.routed("echo", "request " + i))
                        .doOnNext(
                            answer ->
                                check(
                                    answer.getDataUtf8().equals("request " + i),
                                    "request %d was answered %s",
                                    i,
                                    answer.getDataUtf8())))
            .then();
    Mono.when(items, echoes).block();
    check(next.get() == RESUMED_ITEMS, "%d items came of %d", next.get(), RESUMED_ITEMS);
    roundTrip(connection);
  }

  // The library holds back what it has no permit for: all is answered, over several leases.
  private static void lease(Connection connection) {
    List<String> answers =
        Flux.range(0, 100)
            .flatMapSequential(
                i -> connection.rsocket().requestResponse(Wire.routed("echo", "" + i)), 100)
            .map(Payload::getDataUtf8)
            .collectList()
            .block();
    check(answers.equals(upTo(100)), "the answers are %s", answers);
  }

  // Nothing is held back: permits run out here, and never at the service.
  private static void leaseRunsOut(Connection connection) {
    var answered = new AtomicInteger();
    var heldBack = new AtomicInteger();
    while (answered.get() < 100 || heldBack.get() == 0) {
      Flux.range(0, 50)
          .flatMap(
              i ->
                  connection
                      .rsocket()
                      .requestResponse(Wire.routed("echo", "" + i))
                      .doOnNext(answer -> answered.incrementAndGet())
                      .onErrorResume(
                          MissingLeaseException.class,
                          error -> Mono.<Payload>empty().doFinally(x -> heldBack.incrementAndGet())),
              50)
          .blockLast();
    }
  }

  // Makes the library write a frame of every kind, for whoever records them.
  private static void frames(Connection connection) throws Exception {
    var rsocket = connection.rsocket();
    rsocket
        .requestResponse(Wire.payload(Wire.bytes("hello"), Wire.metadata("echo", "a text")))
        .block();
    request(connection, "echo", "0123456789".repeat(15));
    var inbox = new Inbox(2, 5);
    rsocket.requestStream(Wire.routed("range", "{\"from\":0}")).subscribe(inbox);
    inbox.awaitItems(2);
    inbox.request(3);
    inbox.awaitItems(5);
    var whole = new Inbox(10, Integer.MAX_VALUE);
    rsocket.requestStream(Wire.routed("range", "{\"from\":0,\"to\":2}")).subscribe(whole);
    whole.awaitItems(3);
    var echoed = new Inbox(3, Integer.MAX_VALUE);
    rsocket
        .requestChannel(Flux.just(Wire.routed("echo", "first"), DefaultPayload.create("second")))
        .subscribe(echoed);
    echoed.awaitItems(3);
    Flux<Payload> failing =
        Flux.just(Wire.routed("echo", "first"))
            .concatWith(Mono.error(new ApplicationErrorException("gave up")));
    rsocket.requestChannel(failing).onErrorComplete().blockLast();
    rsocket.fireAndForget(Wire.routed("echo", "forget me")).block();
    rsocket.requestResponse(Wire.routed("fail", "no tea left")).onErrorComplete().block();
    rsocket.requestResponse(Wire.routed("nowhere", "")).onErrorComplete().block();
    rsocket.metadataPush(Wire.payload(new byte[0], Wire.metadata("echo"))).block();
    Thread.sleep(700);
    roundTrip(connection);
  }

  private static void framesRejected(Connection connection) {
    connection.rsocket().requestResponse(DefaultPayload.create("x")).onErrorComplete().block();
  }

  private static void isRejected(Connection connection, String text) {
    try {
      roundTrip(connection);
    } catch (RejectedSetupException error) {
      check(text.equals(error.getMessage()), "it does not say why: %s", error);
      return;
    }
    throw new AssertionError("a rejected connection was served");
  }

  private static List<String> upTo(long end) {
    return LongStream.range(0, end).mapToObj(Long::toString).toList();
  }
}
