import static io.rsocket.metadata.WellKnownMimeType.APPLICATION_JSON;
import static io.rsocket.metadata.WellKnownMimeType.MESSAGE_RSOCKET_AUTHENTICATION;
import static io.rsocket.metadata.WellKnownMimeType.MESSAGE_RSOCKET_COMPOSITE_METADATA;
import static io.rsocket.metadata.WellKnownMimeType.MESSAGE_RSOCKET_ROUTING;

import io.netty.buffer.ByteBuf;
import io.netty.buffer.ByteBufAllocator;
import io.netty.buffer.ByteBufUtil;
import io.netty.buffer.CompositeByteBuf;
import io.rsocket.Payload;
import io.rsocket.RSocket;
import io.rsocket.core.RSocketConnector;
import io.rsocket.metadata.AuthMetadataCodec;
import io.rsocket.metadata.CompositeMetadataCodec;
import io.rsocket.metadata.TaggingMetadataCodec;
import io.rsocket.metadata.WellKnownMimeType;
import io.rsocket.transport.netty.client.TcpClientTransport;
import io.rsocket.util.DefaultPayload;
import java.net.URI;
import java.time.Duration;
import java.util.List;
import reactor.core.publisher.Flux;

/** A client in plain rsocket-java: {@code mvn compile exec:java -Dexec.args=tcp://HOST:PORT}. */
public class Example {
  private static final ByteBufAllocator ALLOCATOR = ByteBufAllocator.DEFAULT;

  public static void main(String[] args) {
    URI uri = URI.create(args.length > 0 ? args[0] : "tcp://127.0.0.1:7878");

    // Connect, and say who we are for as long as the connection lives.
    ByteBuf token = AuthMetadataCodec.encodeBearerMetadata(ALLOCATOR, "a-token".toCharArray());
    RSocket rsocket =
        RSocketConnector.create()
            .dataMimeType(APPLICATION_JSON.getString())
            .metadataMimeType(MESSAGE_RSOCKET_COMPOSITE_METADATA.getString())
            .setupPayload(payload("", metadata(MESSAGE_RSOCKET_AUTHENTICATION, token)))
            .keepAlive(Duration.ofSeconds(20), Duration.ofSeconds(90))
            .connect(TcpClientTransport.create(uri.getHost(), uri.getPort()))
            .block();

    // One request, one answer.
    Payload answer = rsocket.requestResponse(payload("hello", route("echo"))).block();
    System.out.println("echo: " + answer.getDataUtf8());

    // A stream, at most four items ahead: the service sends no more than was asked for.
    List<String> numbers =
        rsocket
            .requestStream(payload("{\"from\":0,\"to\":10}", route("range")))
            .limitRate(4)
            .map(Payload::getDataUtf8)
            .collectList()
            .block();
    System.out.println("range: " + String.join(" ", numbers));

    // A channel: the first payload names the route, and items go both ways.
    Flux<Payload> words =
        Flux.just(payload("one", route("echo")))
            .concatWith(Flux.just("two", "three").map(DefaultPayload::create));
    List<String> echoed =
        rsocket.requestChannel(words).map(Payload::getDataUtf8).collectList().block();
    System.out.println("channel: " + String.join(" ", echoed));

    rsocket.dispose();
  }

  private static Payload payload(String data, byte[] metadata) {
    return DefaultPayload.create(data.getBytes(), metadata);
  }

  private static byte[] route(String name) {
    var tags = TaggingMetadataCodec.createTaggingContent(ALLOCATOR, List.of(name));
    return metadata(MESSAGE_RSOCKET_ROUTING, tags);
  }

  /** Composite metadata of one entry. */
  private static byte[] metadata(WellKnownMimeType type, ByteBuf content) {
    CompositeByteBuf entries = ALLOCATOR.compositeBuffer();
    CompositeMetadataCodec.encodeAndAddMetadata(entries, ALLOCATOR, type, content);
    return ByteBufUtil.getBytes(entries);
  }
}
