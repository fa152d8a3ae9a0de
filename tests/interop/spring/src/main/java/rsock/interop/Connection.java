package rsock.interop;

import io.netty.handler.ssl.SslContextBuilder;
import io.rsocket.transport.ClientTransport;
import io.rsocket.transport.netty.client.TcpClientTransport;
import io.rsocket.transport.netty.client.WebsocketClientTransport;
import java.net.URI;
import javax.net.ssl.SSLException;
import org.springframework.boot.ssl.SslBundle;
import org.springframework.messaging.rsocket.RSocketRequester;
import org.springframework.util.MimeType;
import reactor.netty.http.client.HttpClient;
import reactor.netty.tcp.SslProvider;
import reactor.netty.tcp.TcpClient;

/** What a case connects with, and what came and went then. */
final class Connection {
  final RSocketRequester.Builder builder;
  final FrameLog frames = new FrameLog();
  private final URI uri;
  private final SslBundle bundle;
  private RSocketRequester requester;

  /** Without a bundle it trusts what Java does. */
  Connection(RSocketRequester.Builder builder, URI uri, SslBundle bundle) {
    this.builder = builder.rsocketConnector(frames::attach);
    this.uri = uri;
    this.bundle = bundle;
    Cases.introduce(this);
  }

  /** Connects, which happens with the first request, and sends data of this type. */
  RSocketRequester open(MimeType dataMimeType) {
    builder.dataMimeType(dataMimeType);
    requester =
        switch (uri.getScheme()) {
          case "ws" -> builder.websocket(uri);
          case "tcp" -> builder.tcp(uri.getHost(), uri.getPort());
          default -> builder.transport(secured());
        };
    return requester;
  }

  private ClientTransport secured() {
    if (uri.getScheme().equals("wss")) {
      HttpClient client = HttpClient.create().host(uri.getHost()).port(uri.getPort());
      return WebsocketClientTransport.create(client.secure(this::secure), uri.getPath());
    }
    TcpClient client = TcpClient.create().host(uri.getHost()).port(uri.getPort());
    return TcpClientTransport.create(client.secure(this::secure));
  }

  private void secure(SslProvider.SslContextSpec spec) {
    var context = SslContextBuilder.forClient();
    if (bundle != null) {
      context.trustManager(bundle.getManagers().getTrustManagerFactory());
    }
    try {
      spec.sslContext(context.build())
          .handlerConfigurator(
              handler -> {
                var parameters = handler.engine().getSSLParameters();
                // Of the host's name, which not every Netty looks at by itself.
                parameters.setEndpointIdentificationAlgorithm("HTTPS");
                handler.engine().setSSLParameters(parameters);
              });
    } catch (SSLException error) {
      throw new IllegalStateException(error);
    }
  }

  void close() {
    if (requester != null) {
      requester.dispose();
    }
  }
}
