package rsock.interop;

import java.net.URI;
import java.util.Arrays;
import java.util.Collection;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;
import org.springframework.boot.SpringBootConfiguration;
import org.springframework.boot.autoconfigure.EnableAutoConfiguration;
import org.springframework.boot.builder.SpringApplicationBuilder;
import org.springframework.boot.security.autoconfigure.rsocket.RSocketSecurityAutoConfiguration;
import org.springframework.boot.ssl.SslBundles;
import org.springframework.messaging.rsocket.RSocketRequester;

/**
 * Spring's RSocketRequester as a client of rsockd.
 *
 * <p>Usage: {@code Client URI [CASE...]}. One line a case on stdout; without names all cases of a
 * plain service run. Exit code 1 when a case failed.
 */
@SpringBootConfiguration
// What Spring Security sets up is for servers.
@EnableAutoConfiguration(exclude = RSocketSecurityAutoConfiguration.class)
public class Client {
  private static final long CASE_LIMIT_SECONDS = 10;
  private static final String BUNDLE =
      "spring.ssl.bundle.pem.interop.truststore.certificate=file:";

  public static void main(String[] args) {
    if (args.length == 0 || !args[0].matches("(tcp|ws|tls|wss)://.*")) {
      System.err.println("usage: Client (tcp|tls)://HOST:PORT|(ws|wss)://HOST:PORT/PATH [CASE ...]");
      System.exit(2);
    }
    // Boot logs to stdout.
    var out = System.out;
    System.setOut(System.err);
    String authority = System.getenv("INTEROP_CA");
    var context =
        new SpringApplicationBuilder(Client.class)
            .properties(
                "spring.main.web-application-type=none",
                "spring.main.banner-mode=off",
                "logging.level.root=error",
                authority == null ? "" : BUNDLE + authority)
            .run();
    URI uri = URI.create(args[0]);
    Collection<String> names = Arrays.asList(args).subList(1, args.length);
    boolean failed = false;
    for (String name : names.isEmpty() ? Cases.PLAIN.keySet() : names) {
      // A new one each time: Boot's bean is a prototype.
      var builder = context.getBean(RSocketRequester.Builder.class);
      var bundle = authority == null ? null : context.getBean(SslBundles.class).getBundle("interop");
      String line = run(new Connection(builder, uri, bundle), name);
      failed |= line.startsWith("FAIL");
      out.println(line);
    }
    System.exit(failed ? 1 : 0);
  }

  private static String run(Connection connection, String name) {
    Cases.Case wanted = Cases.find(name);
    if (wanted == null) {
      return "FAIL %s: there is no such case".formatted(name);
    }
    var finished =
        CompletableFuture.runAsync(
            () -> {
              try {
                wanted.run(connection);
              } catch (Exception error) {
                throw new IllegalStateException(error);
              }
            });
    Throwable problem;
    try {
      finished.get(CASE_LIMIT_SECONDS, TimeUnit.SECONDS);
      return "ok " + name;
    } catch (TimeoutException error) {
      problem = new AssertionError("no end after %d s".formatted(CASE_LIMIT_SECONDS));
    } catch (ExecutionException | InterruptedException error) {
      problem = error;
    } finally {
      connection.close();
    }
    return "FAIL %s: %s".formatted(name, inOneLine(problem));
  }

  private static String inOneLine(Throwable error) {
    while ((error instanceof ExecutionException || error instanceof IllegalStateException)
        && error.getCause() != null) {
      error = error.getCause();
    }
    String line = error.toString().replaceAll("\\s*\\n\\s*", " ");
    return line.length() > 300 ? line.substring(0, 300) + " ..." : line;
  }
}
