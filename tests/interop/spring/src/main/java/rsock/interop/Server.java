package rsock.interop;

import io.rsocket.SocketAcceptor;
import java.io.PrintStream;
import java.net.InetAddress;
import java.net.URI;
import java.util.Arrays;
import java.util.List;
import org.springframework.boot.SpringBootConfiguration;
import org.springframework.boot.autoconfigure.EnableAutoConfiguration;
import org.springframework.boot.builder.SpringApplicationBuilder;
import org.springframework.boot.rsocket.messaging.RSocketStrategiesCustomizer;
import org.springframework.boot.rsocket.netty.NettyRSocketServerFactory;
import org.springframework.boot.rsocket.server.RSocketServer;
import org.springframework.boot.rsocket.server.RSocketServerCustomizer;
import org.springframework.context.ConfigurableApplicationContext;
import org.springframework.context.annotation.Bean;
import org.springframework.context.annotation.Import;
import org.springframework.messaging.rsocket.annotation.support.RSocketMessageHandler;
import org.springframework.security.authentication.BadCredentialsException;
import org.springframework.security.authentication.TestingAuthenticationToken;
import org.springframework.security.config.annotation.rsocket.RSocketSecurity;
import org.springframework.security.core.Authentication;
import org.springframework.security.oauth2.server.resource.authentication.BearerTokenAuthenticationToken;
import org.springframework.security.rsocket.core.PayloadSocketAcceptorInterceptor;
import org.springframework.util.MimeTypeUtils;
import org.springframework.util.unit.DataSize;
import reactor.core.publisher.Mono;

/**
 * Spring Boot as the peer that serves.
 *
 * <p>Usage: {@code Server [--mtu BYTES] tcp://HOST:PORT ws://HOST:PORT/PATH}. Says {@code listening
 * on URI} for each, {@code got fnf TEXT} and {@code got push TEXT} for what has no answer, and ends
 * when its stdin does. The TCP server is the one of Boot's settings, the other is made as Boot would.
 */
@SpringBootConfiguration
@EnableAutoConfiguration
@Import(Handlers.class)
public class Server {
  private static final String USER = "ann";
  private static final String PASSWORD = "s3cr3t";
  private static final String TOKEN = "a-token";
  private static final String PORT = "local.rsocket.server.port";

  private static PrintStream out;

  public static void main(String[] args) throws Exception {
    // Boot logs to stdout.
    out = System.out;
    System.setOut(System.err);
    boolean fragments = args[0].equals("--mtu");
    DataSize mtu = DataSize.ofBytes(fragments ? Long.parseLong(args[1]) : 0);
    List<URI> uris = Arrays.stream(args).skip(fragments ? 2 : 0).map(URI::create).toList();
    URI tcp = uris.get(0);
    ConfigurableApplicationContext context =
        new SpringApplicationBuilder(Server.class)
            .properties(
                "spring.main.web-application-type=none",
                "spring.main.banner-mode=off",
                "logging.level.root=warn",
                "spring.rsocket.server.address=" + tcp.getHost(),
                "spring.rsocket.server.port=" + tcp.getPort(),
                "spring.rsocket.server.fragment-size=" + mtu.toBytes() + "B")
            .run();
    say(listening(tcp, context.getEnvironment().getRequiredProperty(PORT, Integer.class)));
    for (URI ws : uris.subList(1, uris.size())) {
      say(listening(ws, startWebSocket(context, ws, mtu).address().getPort()));
    }
    while (System.in.read() >= 0) {}
    System.exit(0);
  }

  private static RSocketServer startWebSocket(
      ConfigurableApplicationContext context, URI uri, DataSize mtu) throws Exception {
    var factory = new NettyRSocketServerFactory();
    factory.setTransport(RSocketServer.Transport.WEBSOCKET);
    factory.setAddress(InetAddress.getByName(uri.getHost()));
    factory.setPort(uri.getPort());
    factory.setFragmentSize(mtu);
    var customizers = context.getBeanProvider(RSocketServerCustomizer.class);
    factory.setRSocketServerCustomizers(customizers.orderedStream().toList());
    SocketAcceptor acceptor = context.getBean(RSocketMessageHandler.class).responder();
    RSocketServer server = factory.create(acceptor);
    server.start();
    return server;
  }

  private static String listening(URI uri, int port) {
    return "listening on %s://%s:%d%s"
        .formatted(uri.getScheme(), uri.getHost(), port, uri.getPath());
  }

  static synchronized void say(String line) {
    out.println(line);
  }

  /** Lets handlers have metadata that is one text. */
  @Bean
  RSocketStrategiesCustomizer textMetadata() {
    return strategies ->
        strategies.metadataExtractorRegistry(
            registry ->
                registry.metadataToExtract(MimeTypeUtils.TEXT_PLAIN, String.class, "text"));
  }

  /** Only {@code whoami} asks for credentials; those given anywhere have to be right. */
  @Bean
  PayloadSocketAcceptorInterceptor security(RSocketSecurity security) {
    return security
        .authorizePayload(
            payloads ->
                payloads.route("whoami").authenticated().anyExchange().permitAll())
        .simpleAuthentication(either -> either.authenticationManager(Server::authenticate))
        .build();
  }

  // Both kinds of credentials come here, whichever of its methods it is registered with.
  private static Mono<Authentication> authenticate(Authentication given) {
    if (given instanceof BearerTokenAuthenticationToken bearer) {
      return TOKEN.equals(bearer.getToken())
          ? Mono.just(new TestingAuthenticationToken("the bearer", null, List.of()))
          : Mono.error(new BadCredentialsException("no such token"));
    }
    return USER.equals(given.getPrincipal()) && PASSWORD.equals(given.getCredentials())
        ? Mono.just(new TestingAuthenticationToken(USER, null, List.of()))
        : Mono.error(new BadCredentialsException("no such user"));
  }
}
