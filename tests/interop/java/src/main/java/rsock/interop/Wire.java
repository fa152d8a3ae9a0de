package rsock.interop;

import io.netty.buffer.ByteBuf;
import io.netty.buffer.ByteBufAllocator;
import io.netty.buffer.Unpooled;
import io.netty.channel.ChannelHandlerContext;
import io.netty.channel.ChannelInboundHandlerAdapter;
import io.netty.handler.ssl.SslContextBuilder;
import io.rsocket.Payload;
import io.rsocket.metadata.AuthMetadataCodec;
import io.rsocket.metadata.CompositeMetadata;
import io.rsocket.metadata.CompositeMetadataCodec;
import io.rsocket.metadata.RoutingMetadata;
import io.rsocket.metadata.TaggingMetadataCodec;
import io.rsocket.metadata.WellKnownMimeType;
import io.rsocket.transport.ClientTransport;
import io.rsocket.transport.netty.client.TcpClientTransport;
import io.rsocket.transport.netty.client.WebsocketClientTransport;
import io.rsocket.util.DefaultPayload;
import java.io.File;
import java.net.URI;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.util.List;
import java.util.concurrent.atomic.AtomicLong;
import javax.net.ssl.SSLException;
import reactor.netty.http.client.HttpClient;
import reactor.netty.tcp.SslProvider;
import reactor.netty.tcp.TcpClient;

/** Payloads, their metadata, and transports that count what comes in. */
final class Wire {
  static final String COMPOSITE =
      WellKnownMimeType.MESSAGE_RSOCKET_COMPOSITE_METADATA.getString();
  static final String OCTETS = WellKnownMimeType.APPLICATION_OCTET_STREAM.getString();
  static final String TEXT = WellKnownMimeType.TEXT_PLAIN.getString();
  private static final ByteBufAllocator ALLOCATOR = ByteBufAllocator.DEFAULT;

  private Wire() {}

  static byte[] bytes(String text) {
    return text.getBytes(StandardCharsets.UTF_8);
  }

  static byte[] bytes(ByteBuffer buffer) {
    byte[] copy = new byte[buffer.remaining()];
    buffer.duplicate().get(copy);
    return copy;
  }

  /** Composite metadata with the route and, where wanted, one text. */
  static byte[] metadata(String route, String... texts) {
    var composite = ALLOCATOR.compositeBuffer();
    CompositeMetadataCodec.encodeAndAddMetadata(
        composite,
        ALLOCATOR,
        WellKnownMimeType.MESSAGE_RSOCKET_ROUTING,
        TaggingMetadataCodec.createTaggingContent(ALLOCATOR, List.of(route)));
    for (String text : texts) {
      CompositeMetadataCodec.encodeAndAddMetadata(
          composite, ALLOCATOR, WellKnownMimeType.TEXT_PLAIN, Unpooled.wrappedBuffer(bytes(text)));
    }
    byte[] encoded = new byte[composite.readableBytes()];
    composite.readBytes(encoded);
    composite.release();
    return encoded;
  }

  /** Composite metadata with JSON, behind the route where there is one. */
  static byte[] metadataWithJson(String json, String... route) {
    var composite = ALLOCATOR.compositeBuffer();
    if (route.length > 0) {
      CompositeMetadataCodec.encodeAndAddMetadata(
          composite,
          ALLOCATOR,
          WellKnownMimeType.MESSAGE_RSOCKET_ROUTING,
          TaggingMetadataCodec.createTaggingContent(ALLOCATOR, List.of(route)));
    }
    CompositeMetadataCodec.encodeAndAddMetadata(
        composite, ALLOCATOR, WellKnownMimeType.APPLICATION_JSON, Unpooled.wrappedBuffer(bytes(json)));
    byte[] encoded = new byte[composite.readableBytes()];
    composite.readBytes(encoded);
    composite.release();
    return encoded;
  }

  /** The first entry of JSON, or nothing. */
  static String json(Payload payload) {
    for (CompositeMetadata.Entry entry : new CompositeMetadata(payload.sliceMetadata(), false)) {
      if (WellKnownMimeType.APPLICATION_JSON.getString().equals(entry.getMimeType())) {
        return entry.getContent().toString(StandardCharsets.UTF_8);
      }
    }
    return "";
  }

  static Payload payload(byte[] data, byte[] metadata) {
    return DefaultPayload.create(data, metadata);
  }

  static Payload routed(String route, String data) {
    return payload(bytes(data), metadata(route));
  }

  /** The first routing tag, or null where there is none. */
  static String route(Payload payload) {
    if (!payload.hasMetadata()) {
      return null;
    }
    var entries = new CompositeMetadata(payload.sliceMetadata(), false);
    for (CompositeMetadata.Entry entry : entries) {
      if (WellKnownMimeType.MESSAGE_RSOCKET_ROUTING.getString().equals(entry.getMimeType())) {
        for (String tag : new RoutingMetadata(entry.getContent())) {
          return tag;
        }
      }
    }
    return null;
  }

  /** What SETUP says about who it is, if the runner asks for it; null otherwise. */
  static byte[] credentials() {
    String wanted = System.getenv("INTEROP_AUTH");
    if (wanted == null) {
      return null;
    }
    String[] parts = wanted.split(":");
    ByteBuf content =
        parts[0].equals("simple")
            ? AuthMetadataCodec.encodeSimpleMetadata(
                ALLOCATOR, parts[1].toCharArray(), parts[2].toCharArray())
            : AuthMetadataCodec.encodeBearerMetadata(ALLOCATOR, parts[1].toCharArray());
    var composite = ALLOCATOR.compositeBuffer();
    CompositeMetadataCodec.encodeAndAddMetadata(
        composite, ALLOCATOR, WellKnownMimeType.MESSAGE_RSOCKET_AUTHENTICATION, content);
    byte[] encoded = new byte[composite.readableBytes()];
    composite.readBytes(encoded);
    composite.release();
    return encoded;
  }

  /** Trusts the runner's authority, or without one what Java does; and looks at the host's name. */
  private static void secure(SslProvider.SslContextSpec spec) {
    String authority = System.getenv("INTEROP_CA");
    var context = SslContextBuilder.forClient();
    if (authority != null) {
      context.trustManager(new File(authority));
    }
    try {
      spec.sslContext(context.build())
          .handlerConfigurator(
              handler -> {
                var parameters = handler.engine().getSSLParameters();
                // TcpClient looks at no name by itself, and HttpClient does.
                parameters.setEndpointIdentificationAlgorithm("HTTPS");
                handler.engine().setSSLParameters(parameters);
              });
    } catch (SSLException error) {
      throw new IllegalStateException(error);
    }
  }

  static ClientTransport transport(URI uri, AtomicLong bytesIn) {
    boolean isSecure = uri.getScheme().equals("tls") || uri.getScheme().equals("wss");
    if (uri.getScheme().startsWith("ws")) {
      HttpClient client =
          HttpClient.create()
              .host(uri.getHost())
              .port(uri.getPort())
              .doOnConnected(c -> c.channel().pipeline().addFirst(new Counter(bytesIn)));
      if (isSecure) {
        client = client.secure(Wire::secure);
      }
      return WebsocketClientTransport.create(client, uri.getPath());
    }
    TcpClient client =
        TcpClient.create()
            .host(uri.getHost())
            .port(uri.getPort())
            .doOnConnected(c -> c.channel().pipeline().addFirst(new Counter(bytesIn)));
    return TcpClientTransport.create(isSecure ? client.secure(Wire::secure) : client);
  }

  private static final class Counter extends ChannelInboundHandlerAdapter {
    private final AtomicLong bytes;

    Counter(AtomicLong bytes) {
      this.bytes = bytes;
    }

    @Override
    public void channelRead(ChannelHandlerContext context, Object message) throws Exception {
      if (message instanceof ByteBuf buffer) {
        bytes.addAndGet(buffer.readableBytes());
      }
      super.channelRead(context, message);
    }
  }
}
