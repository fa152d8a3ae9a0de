package rsock.interop;

import io.netty.buffer.Unpooled;
import io.rsocket.Payload;
import io.rsocket.RSocket;
import io.rsocket.core.RSocketConnector;
import io.rsocket.core.Resume;
import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.net.URI;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.UUID;
import java.util.concurrent.atomic.AtomicLong;
import java.util.concurrent.atomic.AtomicReference;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import reactor.core.publisher.Flux;
import reactor.core.publisher.Sinks;
import reactor.util.retry.Retry;

/**
 * A member of a room of rsockd, by rsocket-java: what comes on stdin it publishes, what is said in
 * the room it tells on stdout, a line of JSON each.
 *
 * <p>Usage: {@code Member URI NAME TOPIC}. A line that is lost is resumed; where that does not
 * work, it comes again behind the last message that it had.
 */
public final class Member {
  private static final String OLDEST = "\"start\"";
  private static final Duration PATIENCE = Duration.ofSeconds(10);
  private static final Pattern PLACE =
      Pattern.compile("\"epoch\":\"([0-9a-f]{16})\",\"(?:offset|next)\":(\\d+)");
  // The epoch of a gap is behind it; one without an end says with which offset all begins anew.
  private static final Pattern GAP =
      Pattern.compile(
          "\"gap\":\\{.*?(?:\"to\":(\\d+))?},\"epoch\":\"([0-9a-f]{16})\"(?:,\"base\":(\\d+))?");

  private final URI uri;
  private final String name;
  private final String topic;
  private final PrintStream out = new PrintStream(System.out, true, StandardCharsets.UTF_8);
  private final AtomicReference<RSocket> connection = new AtomicReference<>();
  private final Sinks.Empty<Void> left = Sinks.empty();
  private volatile boolean isLeaving;
  private String from = OLDEST;

  private Member(String[] args) {
    uri = URI.create(args[0]);
    name = args[1];
    topic = args[2];
  }

  public static void main(String[] args) throws Exception {
    var member = new Member(args);
    var reading = new Thread(member::stay);
    reading.setDaemon(true);
    reading.start();
    var input = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
    for (String line; (line = input.readLine()) != null; ) {
      member.publish(line);
    }
    member.leave();
    System.exit(0);
  }

  /** Says so, since a session that is only gone is waited for. */
  private void leave() {
    RSocket last = connection.get();
    if (last != null) {
      isLeaving = true;
      left.tryEmitEmpty();
      last.requestResponse(Wire.routed("echo", "")).onErrorComplete().block(PATIENCE);
      last.dispose();
    }
  }

  /** Publishes once: with the same id until it is acknowledged. */
  private void publish(String text) throws InterruptedException {
    String options = "{\"id\":\"%s\",\"from\":\"%s\"}".formatted(UUID.randomUUID(), name);
    byte[] metadata = Wire.metadataWithJson(options, "topic." + topic);
    while (true) {
      RSocket rsocket = connection.get();
      try {
        if (rsocket != null) {
          rsocket.requestResponse(Wire.payload(Wire.bytes(text), metadata)).block(PATIENCE);
          return;
        }
      } catch (RuntimeException lost) {
        // It may have been published, and the id says so the next time.
      }
      Thread.sleep(50);
    }
  }

  private void stay() {
    while (true) {
      try {
        RSocket rsocket = connect();
        connection.set(rsocket);
        String options =
            "{\"name\":\"%s\",\"receive\":\"messages\",\"start\":true,\"from\":%s}"
                .formatted(name, from);
        Payload join = Wire.routed("topic." + topic, options);
        rsocket
            .requestChannel(Flux.just(join).concatWith(Flux.never()))
            .limitRate(32)
            .doOnNext(this::take)
            .takeUntilOther(left.asMono())
            .blockLast();
        if (isLeaving) {
          return;
        }
      } catch (RuntimeException lost) {
        System.err.println(lost);
      }
      try {
        Thread.sleep(50);
      } catch (InterruptedException end) {
        return;
      }
    }
  }

  private RSocket connect() {
    var resume =
        new Resume()
            .sessionDuration(Duration.ofSeconds(30))
            .token(() -> Unpooled.copiedBuffer(Wire.bytes("member-" + UUID.randomUUID())))
            .retry(Retry.fixedDelay(1_000, Duration.ofMillis(50)));
    return RSocketConnector.create()
        .keepAlive(Duration.ofSeconds(1), Duration.ofSeconds(30))
        .resume(resume)
        .dataMimeType(Wire.OCTETS)
        .metadataMimeType(Wire.COMPOSITE)
        .connect(Wire.transport(uri, new AtomicLong()))
        .block(PATIENCE);
  }

  private void take(Payload item) {
    String beside = Wire.json(item);
    Matcher gap = GAP.matcher(beside);
    if (gap.find()) {
      String base = gap.group(3);
      keep(gap.group(2), base == null ? Long.parseLong(gap.group(1)) : Long.parseLong(base) - 1);
      out.println(beside);
      return;
    }
    Matcher place = PLACE.matcher(beside);
    if (!place.find()) {
      return;
    }
    String epoch = place.group(1);
    long offset = Long.parseLong(place.group(2));
    if (beside.startsWith("{\"start\"")) {
      // Where there is a position already, a gap between it and this may be told next.
      if (from.equals(OLDEST)) {
        keep(epoch, offset - 1);
      }
      out.println("{\"joined\":true}");
    } else {
      keep(epoch, offset);
      out.printf(
          "{\"epoch\":\"%s\",\"offset\":%d,\"text\":\"%s\"}%n", epoch, offset, item.getDataUtf8());
    }
  }

  private void keep(String epoch, long offset) {
    from = "{\"epoch\":\"%s\",\"after\":%d}".formatted(epoch, offset);
  }
}
