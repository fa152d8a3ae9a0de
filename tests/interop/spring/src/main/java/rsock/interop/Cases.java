package rsock.interop;

import io.rsocket.exceptions.InvalidException;
import io.rsocket.exceptions.RejectedException;
import io.rsocket.exceptions.RejectedSetupException;
import io.rsocket.frame.FrameType;
import io.rsocket.metadata.WellKnownMimeType;
import java.time.Duration;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.stream.IntStream;
import java.util.stream.LongStream;
import org.springframework.core.codec.Encoder;
import org.springframework.messaging.rsocket.RSocketRequester;
import org.springframework.security.rsocket.metadata.BearerTokenAuthenticationEncoder;
import org.springframework.security.rsocket.metadata.BearerTokenMetadata;
import org.springframework.security.rsocket.metadata.SimpleAuthenticationEncoder;
import org.springframework.security.rsocket.metadata.UsernamePasswordMetadata;
import org.springframework.util.MimeType;
import org.springframework.util.MimeTypeUtils;
import reactor.core.publisher.Flux;

/** What Spring's client must see of rsockd, and of a server that asks for credentials. */
final class Cases {
  interface Case {
    void run(Connection connection) throws Exception;
  }

  static final Map<String, Case> PLAIN = new LinkedHashMap<>();

  /** Against a server that asks for credentials, by name only. */
  private static final Map<String, Case> GUARDED = new LinkedHashMap<>();

  private static final MimeType JSON = MimeTypeUtils.APPLICATION_JSON;
  private static final MimeType CBOR = new MimeType("application", "cbor");
  private static final MimeType TEXT = MimeTypeUtils.TEXT_PLAIN;
  private static final MimeType OCTETS = MimeTypeUtils.APPLICATION_OCTET_STREAM;
  private static final MimeType AUTHENTICATION =
      MimeType.valueOf(WellKnownMimeType.MESSAGE_RSOCKET_AUTHENTICATION.getString());

  private static final UsernamePasswordMetadata ANN =
      new UsernamePasswordMetadata("ann", "s3cr3t");
  private static final UsernamePasswordMetadata NOT_ANN =
      new UsernamePasswordMetadata("ann", "wrong");
  private static final BearerTokenMetadata TOKEN = new BearerTokenMetadata("a-token");
  private static final BearerTokenMetadata NO_TOKEN = new BearerTokenMetadata("b-token");

  record Address(String city, int number) {}

  record Order(String item, long count, double price, boolean paid, List<Address> to) {}

  record Range(long from, Long to) {}

  record Status(String version) {}

  private static final Order ORDER =
      new Order("tea — 茶", 1L << 40, 2.5, true, List.of(new Address("Ulm", 7)));

  static {
    PLAIN.put("rr-text", c -> echoes(c.open(TEXT), "hello, wörld", String.class));
    PLAIN.put("rr-json", c -> echoes(c.open(JSON), ORDER, Order.class));
    PLAIN.put("rr-cbor", c -> echoes(c.open(CBOR), ORDER, Order.class));
    PLAIN.put("rr-json-object", c -> echoes(c.open(JSON), Map.of("a", 1, "b", "c"), Map.class));
    PLAIN.put("rr-cbor-object", c -> echoes(c.open(CBOR), Map.of("a", 1, "b", "c"), Map.class));
    PLAIN.put("rr-empty", c -> echoes(c.open(TEXT), "", String.class));
    PLAIN.put("rr-1mib", Cases::rr1MiB);
    PLAIN.put("rs-range", Cases::rsRange);
    PLAIN.put("rs-cancel", Cases::rsCancel);
    PLAIN.put("rc-echo", Cases::rcEcho);
    PLAIN.put("fnf", Cases::fnf);
    PLAIN.put("metadata-push", Cases::metadataPush);
    PLAIN.put("setup-payload", Cases::setupPayload);
    PLAIN.put("unknown-route", Cases::unknownRoute);
    PLAIN.put("error-text", Cases::errorText);
    PLAIN.put("status", Cases::status);
    PLAIN.put("keepalive", Cases::keepalive);
    PLAIN.put("credentials-unasked", Cases::credentialsUnasked);

    GUARDED.put("setup-simple", c -> inSetup(c, ANN, "ann"));
    GUARDED.put("setup-bearer", c -> inSetup(c, TOKEN, "the bearer"));
    GUARDED.put("setup-simple-wrong", c -> refusedInSetup(c, NOT_ANN));
    GUARDED.put("setup-bearer-wrong", c -> refusedInSetup(c, NO_TOKEN));
    GUARDED.put("request-simple", c -> inRequest(c, ANN, "ann"));
    GUARDED.put("request-bearer", c -> inRequest(c, TOKEN, "the bearer"));
    GUARDED.put("request-simple-wrong", c -> refusedInRequest(c, NOT_ANN));
    GUARDED.put("request-bearer-wrong", c -> refusedInRequest(c, NO_TOKEN));
    GUARDED.put("request-over-setup", Cases::requestOverSetup);
    GUARDED.put("no-credentials", Cases::noCredentials);
    GUARDED.put("setup-rejected", Cases::setupRejected);
    // The credentials in SETUP, which the runner gives, are wrong.
    GUARDED.put("setup-refused", c -> isRejected(c, "authentication failed"));
  }

  private Cases() {}

  static Case find(String name) {
    return PLAIN.getOrDefault(name, GUARDED.get(name));
  }

  private static void check(boolean condition, String otherwise, Object... values) {
    if (!condition) {
      throw new AssertionError(otherwise.formatted(values));
    }
  }

  private static <T> void echoes(RSocketRequester requester, T value, Class<? extends T> type) {
    Object answer = requester.route("echo").data(value).retrieveMono(type).block();
    check(value.equals(answer), "echo answered %s", answer);
  }

  /** A barrier: what the service had to say before has been said by then. */
  private static void roundTrip(RSocketRequester requester) {
    byte[] there = {1, 2, 3};
    byte[] back = requester.route("echo").data(there).retrieveMono(byte[].class).block();
    check(Arrays.equals(there, back), "echo answered %s", Arrays.toString(back));
  }

  private static void rr1MiB(Connection connection) {
    byte[] data = new byte[1 << 20];
    for (int i = 0; i < data.length; i++) {
      data[i] = (byte) (i * 31 + (i >> 8));
    }
    byte[] answer =
        connection.open(OCTETS).route("echo").data(data).retrieveMono(byte[].class).block();
    check(Arrays.equals(answer, data), "the bytes of the answer differ");
  }

  // limitRate asks for the rest of a batch when three quarters of it have come.
  private static void rsRange(Connection connection) {
    List<Long> items =
        connection
            .open(JSON)
            .route("range")
            .data(new Range(0, 50L))
            .retrieveFlux(Long.class)
            .limitRate(4)
            .collectList()
            .block();
    check(LongStream.range(0, 50).boxed().toList().equals(items), "the items are %s", items);
    long credit = 0;
    int came = 0;
    int batches = 0;
    for (var frame : connection.frames.entries()) {
      check(frame.n() <= 4, "it asked for %d at a time", frame.n());
      if (frame.isOurs() && frame.n() > 0) {
        credit += frame.n();
        batches++;
      } else if (!frame.isOurs() && frame.type() == FrameType.NEXT) {
        came++;
        check(came <= credit, "%d items came, %d were asked for", came, credit);
      }
    }
    check(batches >= 50 / 4, "it asked in %d batches", batches);
  }

  private static void rsCancel(Connection connection) {
    var requester = connection.open(JSON);
    List<Long> items =
        requester
            .route("range")
            .data(new Range(0, null))
            .retrieveFlux(Long.class)
            .take(10, false)
            .collectList()
            .block();
    check(LongStream.range(0, 10).boxed().toList().equals(items), "the items are %s", items);
    roundTrip(requester);
    check(connection.frames.count(true, FrameType.CANCEL) == 1, "it did not cancel");
    long before = connection.frames.count(false, FrameType.NEXT);
    for (int i = 0; i < 20; i++) {
      roundTrip(requester);
    }
    long since = connection.frames.count(false, FrameType.NEXT) - before;
    check(since == 0, "%d items came after the cancel and a round trip", since);
  }

  private static void rcEcho(Connection connection) {
    List<String> items = IntStream.range(0, 50).mapToObj(i -> "item " + i).toList();
    List<String> answer =
        connection
            .open(TEXT)
            .route("echo")
            .data(Flux.fromIterable(items), String.class)
            .retrieveFlux(String.class)
            .limitRate(4)
            .collectList()
            .block();
    check(items.equals(answer), "the items are %s", answer);
    var credit = connection.frames.count(false, FrameType.REQUEST_N);
    check(credit > 0, "the service never gave credit");
  }

  private static void fnf(Connection connection) {
    var requester = connection.open(TEXT);
    requester.route("echo").data("forget me").send().block();
    check(connection.frames.count(true, FrameType.REQUEST_FNF) == 1, "it was not sent");
    roundTrip(requester);
  }

  private static void metadataPush(Connection connection) {
    var requester = connection.open(TEXT);
    requester.route("echo").metadata("a push", TEXT).sendMetadata().block();
    check(connection.frames.count(true, FrameType.METADATA_PUSH) == 1, "it was not sent");
    roundTrip(requester);
  }

  private static void setupPayload(Connection connection) {
    connection.builder.setupRoute("hello").setupData("who I am").setupMetadata("more", TEXT);
    roundTrip(connection.open(TEXT));
  }

  private static void unknownRoute(Connection connection) {
    var requester = connection.open(TEXT);
    try {
      requester.route("no.such.{what}", "route").retrieveMono(String.class).block();
    } catch (RejectedException error) {
      check(error.getMessage().contains("no.such.route"), "it does not name the route: %s", error);
      roundTrip(requester);
      return;
    }
    throw new AssertionError("an unknown route was answered");
  }

  private static void errorText(Connection connection) {
    var requester = connection.open(JSON);
    try {
      requester.route("range").data(Map.of("form", 1)).retrieveFlux(Long.class).blockLast();
    } catch (InvalidException error) {
      check(error.getMessage().contains("form"), "it does not name the option: %s", error);
      roundTrip(requester);
      return;
    }
    throw new AssertionError("wrong options were taken");
  }

  private static void status(Connection connection) {
    Status status = connection.open(JSON).route("status").retrieveMono(Status.class).block();
    check(status != null && status.version() != null, "status answered %s", status);
  }

  // The one case where time is the point.
  private static void keepalive(Connection connection) throws Exception {
    connection.builder.rsocketConnector(
        connector -> connector.keepAlive(Duration.ofMillis(200), Duration.ofSeconds(1)));
    var requester = connection.open(TEXT);
    roundTrip(requester);
    Thread.sleep(1_500);
    long answered = connection.frames.count(false, FrameType.KEEPALIVE);
    check(answered >= 3, "only %d answers came in 1.5 s", answered);
    roundTrip(requester);
  }

  /** rsockd asks for none, and takes requests that have some. */
  private static void credentialsUnasked(Connection connection) {
    encoderOf(TOKEN, connection);
    connection.builder.setupMetadata(TOKEN, AUTHENTICATION);
    var requester = connection.open(JSON);
    Order answer =
        requester
            .route("echo")
            .metadata(TOKEN, AUTHENTICATION)
            .data(ORDER)
            .retrieveMono(Order.class)
            .block();
    check(ORDER.equals(answer), "echo answered %s", answer);
  }

  /** Says in SETUP who it is, if the runner asks for it. */
  static void introduce(Connection connection) {
    String wanted = System.getenv("INTEROP_AUTH");
    if (wanted == null) {
      return;
    }
    String[] parts = wanted.split(":");
    Object credentials =
        parts[0].equals("simple")
            ? new UsernamePasswordMetadata(parts[1], parts[2])
            : new BearerTokenMetadata(parts[1]);
    encoderOf(credentials, connection);
    connection.builder.setupMetadata(credentials, AUTHENTICATION);
  }

  // Not both: each takes all that is of the one MIME type they share, and fails for the other's.
  private static void encoderOf(Object credentials, Connection connection) {
    Encoder<?> encoder =
        credentials instanceof BearerTokenMetadata
            ? new BearerTokenAuthenticationEncoder()
            : new SimpleAuthenticationEncoder();
    connection.builder.rsocketStrategies(strategies -> strategies.encoder(encoder));
  }

  private static void inSetup(Connection connection, Object credentials, String name) {
    encoderOf(credentials, connection);
    connection.builder.setupMetadata(credentials, AUTHENTICATION);
    var requester = connection.open(TEXT);
    for (int i = 0; i < 3; i++) {
      String answer = requester.route("whoami").retrieveMono(String.class).block();
      check(name.equals(answer), "whoami answered %s", answer);
    }
  }

  private static void refusedInSetup(Connection connection, Object credentials) {
    encoderOf(credentials, connection);
    connection.builder.setupMetadata(credentials, AUTHENTICATION);
    isRejected(connection, "credentials are wrong");
  }

  private static void setupRejected(Connection connection) {
    connection.builder.setupData("reject");
    isRejected(connection, "no entry");
  }

  private static void isRejected(Connection connection, String text) {
    try {
      connection.open(TEXT).route("whoami").retrieveMono(String.class).block();
    } catch (RejectedSetupException error) {
      check(error.getMessage().contains(text), "its text is %s", error);
      return;
    }
    throw new AssertionError("the connection was taken");
  }

  private static void inRequest(Connection connection, Object credentials, String name) {
    encoderOf(credentials, connection);
    var requester = connection.open(TEXT);
    String answer =
        requester
            .route("whoami")
            .metadata(credentials, AUTHENTICATION)
            .retrieveMono(String.class)
            .block();
    check(name.equals(answer), "whoami answered %s", answer);
    refused(requester, null, "credentials are needed");
  }

  private static void refusedInRequest(Connection connection, Object credentials) {
    encoderOf(credentials, connection);
    var requester = connection.open(TEXT);
    refused(requester, credentials, "credentials are wrong");
    refused(requester, credentials, "credentials are wrong");
  }

  /** A request's own credentials go before those of its connection. */
  private static void requestOverSetup(Connection connection) {
    encoderOf(ANN, connection);
    connection.builder.setupMetadata(ANN, AUTHENTICATION);
    var requester = connection.open(TEXT);
    refused(requester, NOT_ANN, "credentials are wrong");
    String answer = requester.route("whoami").retrieveMono(String.class).block();
    check("ann".equals(answer), "whoami answered %s", answer);
  }

  private static void noCredentials(Connection connection) {
    refused(connection.open(TEXT), null, "credentials are needed");
  }

  private static void refused(RSocketRequester requester, Object credentials, String text) {
    var request = requester.route("whoami");
    if (credentials != null) {
      request.metadata(credentials, AUTHENTICATION);
    }
    try {
      request.retrieveMono(String.class).block();
    } catch (RejectedException error) {
      check(error.getMessage().contains(text), "its text is %s", error);
      return;
    }
    throw new AssertionError("it was answered");
  }
}
