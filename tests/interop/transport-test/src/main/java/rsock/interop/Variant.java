package rsock.interop;

import static org.junit.jupiter.api.Assertions.assertEquals;

import io.rsocket.Payload;
import io.rsocket.test.TestRSocket;
import io.rsocket.test.TransportTest;
import io.rsocket.transport.ClientTransport;
import io.rsocket.transport.netty.client.TcpClientTransport;
import io.rsocket.transport.netty.client.WebsocketClientTransport;
import java.net.URI;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.Map;
import java.util.TreeMap;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.TestInfo;
import reactor.core.publisher.Flux;
import reactor.util.retry.Retry;

/** TransportTest with a server that is not its own. */
abstract class Variant implements TransportTest {
  private static final Duration LIMIT = Duration.ofSeconds(90);

  /** What has no answer, and so is seen at the server alone: ten of each, with so many bytes. */
  private static final Map<String, Remote.Seen> UNANSWERED = Map.of(
      // Six of these have metadata that is not empty.
      "fireAndForget10", new Remote.Seen(10, 10L * MOCK_DATA.length(), 6L * MOCK_METADATA.length()),
      "largePayloadFireAndForget10", new Remote.Seen(10, 10 * largeBytes(), 10 * largeBytes()),
      "metadataPush10", new Remote.Seen(10, 0, 10L * "test-metadata".length()),
      "largePayloadMetadataPush10", new Remote.Seen(10, 0, 10 * largeBytes()));

  /** How often the sessions of a variant were resumed. */
  static final Map<String, Long> RESUMES = new TreeMap<>();

  private final URI uri;
  private final boolean isFragmented;
  private final boolean isResumed;
  private Remote remote;
  private long resumesBefore;
  private TransportPair<URI, Remote> pair;

  Variant(String name, boolean isFragmented, boolean isResumed) {
    uri = URI.create(System.getProperty("rsock." + name));
    this.isFragmented = isFragmented;
    this.isResumed = isResumed;
  }

  private static long largeBytes() {
    return LARGE_DATA.getBytes(StandardCharsets.UTF_8).length;
  }

  private ClientTransport transport() {
    return uri.getScheme().equals("ws")
        ? WebsocketClientTransport.create(uri)
        : TcpClientTransport.create(uri.getHost(), uri.getPort());
  }

  @BeforeEach
  void connect() throws ReflectiveOperationException {
    remote = new Remote(transport());
    resumesBefore = remote.resumes().block();
    pair =
        new TransportPair<>(
            () -> uri,
            (address, server, allocator) -> transport(),
            (address, allocator) -> remote.asTransport(),
            isFragmented,
            isResumed);
    var responder = TransportPair.class.getDeclaredField("responder");
    responder.setAccessible(true);
    remote.mirrorTo((TestRSocket) responder.get(pair));
  }

  /** What the test itself would look up in its own server. Runs before the pair ends. */
  @AfterEach
  void askTheServer(TestInfo test) {
    String name = test.getTestMethod().orElseThrow().getName();
    try {
      if (UNANSWERED.containsKey(name) && !(isResumed && name.contains("Push"))) {
        assertEquals(UNANSWERED.get(name), remote.seen());
      }
      remote
          .active()
          .doOnNext(active -> assertEquals(0, active, "interactions that go on at the server"))
          .retryWhen(Retry.fixedDelay(200, Duration.ofMillis(10)))
          .block();
      long resumes = remote.resumes().block() - resumesBefore;
      RESUMES.merge(getClass().getSimpleName(), resumes, Long::sum);
    } finally {
      remote.endObserving();
    }
  }

  // As the test has it, but for how it waits: with a StepVerifier each of its twelve threads spins,
  // and what they wait for gets no processor.
  @Override
  public void check(Flux<Payload> payloads) {
    Long items =
        getClient()
            .requestChannel(payloads)
            .doOnNext(Payload::release)
            .limitRate(8)
            .count()
            .block(LIMIT);
    assertEquals(256L, items);
  }

  @Override
  public Duration getTimeout() {
    return LIMIT;
  }

  @Override
  public TransportPair<URI, Remote> getTransportPair() {
    return pair;
  }
}
