package rsock.interop;

import java.net.URI;
import org.springframework.messaging.rsocket.RSocketRequester;
import org.springframework.util.MimeType;

/** What a case connects with, and what came and went then. */
final class Connection {
  final RSocketRequester.Builder builder;
  final FrameLog frames = new FrameLog();
  private final URI uri;
  private RSocketRequester requester;

  Connection(RSocketRequester.Builder builder, URI uri) {
    this.builder = builder.rsocketConnector(frames::attach);
    this.uri = uri;
  }

  /** Connects, which happens with the first request, and sends data of this type. */
  RSocketRequester open(MimeType dataMimeType) {
    builder.dataMimeType(dataMimeType);
    requester =
        uri.getScheme().equals("ws")
            ? builder.websocket(uri)
            : builder.tcp(uri.getHost(), uri.getPort());
    return requester;
  }

  void close() {
    if (requester != null) {
      requester.dispose();
    }
  }
}
