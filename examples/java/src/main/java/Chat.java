import static io.rsocket.metadata.WellKnownMimeType.APPLICATION_JSON;
import static io.rsocket.metadata.WellKnownMimeType.APPLICATION_OCTET_STREAM;
import static io.rsocket.metadata.WellKnownMimeType.MESSAGE_RSOCKET_COMPOSITE_METADATA;
import static io.rsocket.metadata.WellKnownMimeType.MESSAGE_RSOCKET_ROUTING;

import io.netty.buffer.ByteBuf;
import io.netty.buffer.ByteBufAllocator;
import io.netty.buffer.ByteBufUtil;
import io.netty.buffer.CompositeByteBuf;
import io.netty.buffer.Unpooled;
import io.rsocket.Payload;
import io.rsocket.RSocket;
import io.rsocket.core.RSocketConnector;
import io.rsocket.metadata.CompositeMetadata;
import io.rsocket.metadata.CompositeMetadataCodec;
import io.rsocket.metadata.TaggingMetadataCodec;
import io.rsocket.metadata.WellKnownMimeType;
import io.rsocket.transport.netty.client.TcpClientTransport;
import io.rsocket.util.DefaultPayload;
import java.net.URI;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.ArrayDeque;
import java.util.List;
import java.util.Map;
import java.util.Queue;
import java.util.Scanner;
import java.util.UUID;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.Semaphore;
import java.util.function.Consumer;
import org.reactivestreams.Subscription;
import reactor.core.publisher.BaseSubscriber;
import reactor.core.publisher.Mono;
import reactor.core.publisher.Sinks;
import tools.jackson.databind.JsonNode;
import tools.jackson.databind.json.JsonMapper;

/**
 * A chat in the room.lobby of rsockd, in plain rsocket-java: {@code mvn compile exec:java
 * -Dexec.mainClass=Chat -Dexec.args="NAME tcp://HOST:PORT"}.
 *
 * <p>Lines that are typed are published, and those of others shown; Ctrl-D leaves. When the
 * connection is lost another one goes on where this one ended: what was missed comes, and what was
 * not answered is sent again.
 */
public class Chat {
  private static final String ROOM = "room.lobby";
  private static final int BATCH = 16;
  private static final ByteBufAllocator ALLOCATOR = ByteBufAllocator.DEFAULT;
  private static final JsonMapper JSON = JsonMapper.shared();
  private static final Map<String, String> PRESENCE =
      Map.of("here", "is here", "join", "joins", "leave", "leaves");

  private final String name;
  private final URI uri;

  // What has happened and is to be handled, by one thread that owns all that follows. It holds no
  // more than was asked for of the service, and the lines that have a place in the outbox.
  private final BlockingQueue<Runnable> happenings = new LinkedBlockingQueue<>();
  private final Semaphore places = new Semaphore(BATCH);
  private Object from = Map.of("last", 10); // then the position behind the last message shown
  private final Queue<Line> outbox = new ArrayDeque<>(); // what is not answered yet
  private Sinks.Many<Payload> sending;
  private boolean isLive; // whether all that was there before us has been shown
  private boolean isOver; // whether the input has ended
  private Runnable ending; // what to do at the end of the room's stream, once that has come

  /** What was typed, with the id by which it is published once. */
  private record Line(String id, String text) {}

  private Chat(String name, URI uri) {
    this.name = name;
    this.uri = uri;
  }

  public static void main(String[] args) throws InterruptedException {
    if (args.length == 0) {
      System.err.println("expected NAME [tcp://HOST:PORT]");
      System.exit(2);
    }
    var chat = new Chat(args[0], URI.create(args.length > 1 ? args[1] : "tcp://127.0.0.1:7878"));
    var reader = new Thread(chat::read);
    reader.setDaemon(true);
    reader.start();
    while (true) {
      try {
        chat.talk();
        return;
      } catch (RuntimeException error) {
        System.err.printf("* %s; once more in a second%n", error.getMessage());
        Thread.sleep(1_000);
      }
    }
  }

  private void read() {
    var input = new Scanner(System.in, StandardCharsets.UTF_8);
    while (input.hasNextLine()) {
      var line = new Line(UUID.randomUUID().toString(), input.nextLine());
      places.acquireUninterruptibly();
      happenings.add(
          () -> {
            outbox.add(line);
            // Where this fails, the next connection sends it.
            sending.tryEmitNext(payload(line));
          });
    }
    happenings.add(() -> isOver = true);
  }

  /** Talks until the connection ends, or we leave. */
  private void talk() throws InterruptedException {
    RSocket rsocket =
        RSocketConnector.create()
            .dataMimeType(APPLICATION_OCTET_STREAM.getString())
            .metadataMimeType(MESSAGE_RSOCKET_COMPOSITE_METADATA.getString())
            .keepAlive(Duration.ofSeconds(10), Duration.ofSeconds(30))
            .connect(TcpClientTransport.create(uri.getHost(), uri.getPort()))
            .block();
    isLive = false;
    ending = null;
    // It holds what the service has given no credit for, and no more than the outbox does.
    sending = Sinks.many().unicast().onBackpressureBuffer();
    outbox.forEach(line -> sending.tryEmitNext(payload(line)));
    var options =
        Map.of("name", name, "from", from, "receive", "both", "start", true, "live", true);
    Mono<Payload> first = Mono.just(request("topic." + ROOM, options));
    var room = new Taker(this::show, end -> ending = end);
    rsocket.requestChannel(first.concatWith(sending.asFlux())).subscribe(room);
    var members = new Taker(this::showPresence, end -> {});
    rsocket.requestStream(request("presence." + ROOM, Map.of())).subscribe(members);
    try {
      while (ending == null && !(isOver && isLive && outbox.isEmpty())) {
        happenings.take().run();
      }
      if (ending != null) {
        ending.run();
      }
      room.cancel();
    } finally {
      rsocket.dispose();
    }
  }

  /** Has items handled, and asks for one more for each that was. */
  private final class Taker extends BaseSubscriber<Payload> {
    private final Consumer<Payload> handle;
    private final Consumer<Runnable> end;

    Taker(Consumer<Payload> handle, Consumer<Runnable> end) {
      this.handle = handle;
      this.end = end;
    }

    @Override
    protected void hookOnSubscribe(Subscription subscription) {
      request(BATCH);
    }

    @Override
    protected void hookOnNext(Payload item) {
      happenings.add(
          () -> {
            handle.accept(item);
            request(1);
          });
    }

    @Override
    protected void hookOnComplete() {
      happenings.add(() -> end.accept(() -> {}));
    }

    @Override
    protected void hookOnError(Throwable error) {
      Runnable fail =
          () -> {
            throw new IllegalStateException(error.toString(), error);
          };
      happenings.add(() -> end.accept(fail));
    }
  }

  private void show(Payload item) {
    JsonNode said = beside(item);
    JsonNode answer = said.has("own") ? said : said.path("ack");
    if (said.has("gap")) {
      JsonNode gap = said.get("gap");
      String lost =
          "messages %s to %s are not kept any more".formatted(gap.get("from"), gap.get("to"));
      System.out.println("* " + (gap.has("to") ? lost : "the room began anew"));
    } else if (said.has("start")) {
      // A position is there before the first message is.
      JsonNode start = said.get("start");
      from = Map.of("epoch", start.get("epoch"), "after", start.get("next").asLong() - 1);
    } else if (said.has("live")) {
      isLive = true;
    } else if (said.has("refused")) {
      answer = said.get("refused");
      System.out.println("* not published: " + answer.get("reason").asString());
    } else if (said.has("offset") && !said.has("own")) {
      System.out.println(said.path("from").asString("somebody") + ": " + item.getDataUtf8());
    }
    if (said.has("offset")) {
      from = Map.of("epoch", said.get("epoch"), "after", said.get("offset"));
    }
    // The answers come in the order of what we have sent: the message itself, or that it was known
    // or refused.
    if (!outbox.isEmpty() && outbox.peek().id().equals(answer.path("id").asString(""))) {
      outbox.remove();
      places.release();
    }
  }

  private void showPresence(Payload item) {
    JsonNode said = beside(item);
    String does = PRESENCE.get(said.path("event").asString(""));
    String who = said.path("name").asString("");
    if (does != null && !who.equals(name)) {
      System.out.printf("* %s %s%n", who, does);
    }
  }

  /** What the service says beside an item. */
  private static JsonNode beside(Payload item) {
    for (CompositeMetadata.Entry entry : new CompositeMetadata(item.sliceMetadata(), false)) {
      if (APPLICATION_JSON.getString().equals(entry.getMimeType())) {
        return JSON.readTree(ByteBufUtil.getBytes(entry.getContent()));
      }
    }
    return JSON.createObjectNode();
  }

  private static Payload payload(Line line) {
    ByteBuf options = Unpooled.wrappedBuffer(JSON.writeValueAsBytes(Map.of("id", line.id())));
    byte[] text = line.text().getBytes(StandardCharsets.UTF_8);
    return DefaultPayload.create(text, metadata(APPLICATION_JSON, options));
  }

  private static Payload request(String route, Map<String, ?> options) {
    var tags = TaggingMetadataCodec.createTaggingContent(ALLOCATOR, List.of(route));
    byte[] metadata = metadata(MESSAGE_RSOCKET_ROUTING, tags);
    return DefaultPayload.create(JSON.writeValueAsBytes(options), metadata);
  }

  /** Composite metadata of one entry. */
  private static byte[] metadata(WellKnownMimeType type, ByteBuf content) {
    CompositeByteBuf entries = ALLOCATOR.compositeBuffer();
    CompositeMetadataCodec.encodeAndAddMetadata(entries, ALLOCATOR, type, content);
    return ByteBufUtil.getBytes(entries);
  }
}
