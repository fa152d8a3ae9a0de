package rsock.interop;

import io.rsocket.RSocket;
import io.rsocket.core.RSocketConnector;
import java.net.URI;
import java.time.Duration;
import java.util.Arrays;
import java.util.Collection;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.Executors;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;
import java.util.concurrent.atomic.AtomicLong;

/**
 * rsocket-java as a client of rsockd.
 *
 * <p>Usage: {@code Client URI [CASE...]}. One line a case on stdout, as lib/cases.mjs has them;
 * without names all cases of a plain service run. Exit code 1 when a case failed.
 */
public final class Client {
  private static final Duration CASE_LIMIT = Duration.ofSeconds(10);

  private Client() {}

  public static void main(String[] args) {
    if (args.length == 0 || !args[0].matches("(tcp|ws|tls|wss)://.*")) {
      System.err.println("usage: Client (tcp|tls)://HOST:PORT|(ws|wss)://HOST:PORT/PATH [CASE ...]");
      System.exit(2);
    }
    URI uri = URI.create(args[0]);
    Collection<String> names = Arrays.asList(args).subList(1, args.length);
    boolean failed = false;
    for (String name : names.isEmpty() ? Cases.PLAIN.keySet() : names) {
      failed |= !run(uri, name);
    }
    System.exit(failed ? 1 : 0);
  }

  private static boolean run(URI uri, String name) {
    Cases.Case wanted = Cases.find(name);
    if (wanted == null) {
      System.out.printf("FAIL %s: there is no such case%n", name);
      return false;
    }
    var connection = new Connection(uri, wanted.isRejected());
    var executor = Executors.newSingleThreadExecutor();
    Throwable problem;
    try {
      var finished =
          CompletableFuture.runAsync(
              () -> {
                try {
                  connection.open(wanted.connector());
                  wanted.body().run(connection);
                } catch (Exception error) {
                  throw new IllegalStateException(error);
                }
              },
              executor);
      // Whatever the case waits for, it will not come over a closed connection.
      CompletableFuture.anyOf(finished, connection.closed)
          .get(CASE_LIMIT.toMillis(), TimeUnit.MILLISECONDS);
      if (finished.isDone()) {
        System.out.printf("ok %s%n", name);
        return true;
      }
      problem = new AssertionError("the connection was closed");
    } catch (TimeoutException error) {
      problem = new AssertionError("no end after %d s".formatted(CASE_LIMIT.toSeconds()));
    } catch (ExecutionException | InterruptedException error) {
      problem = error;
    } finally {
      executor.shutdownNow();
      connection.close();
    }
    System.out.printf("FAIL %s: %s%n", name, inOneLine(problem));
    return false;
  }

  private static String inOneLine(Throwable error) {
    while ((error instanceof ExecutionException || error instanceof IllegalStateException)
        && error.getCause() != null) {
      error = error.getCause();
    }
    String line = error.toString().replaceAll("\\s*\\n\\s*", " ");
    return line.length() > 300 ? line.substring(0, 300) + " ..." : line;
  }

  /** A connection, what came over its line, and whether it was closed. */
  static final class Connection {
    private final URI uri;
    private final AtomicLong bytesIn = new AtomicLong();
    final CompletableFuture<Void> closed = new CompletableFuture<>();
    private volatile boolean mayClose;
    private volatile RSocket rsocket;

    Connection(URI uri, boolean mayClose) {
      this.uri = uri;
      this.mayClose = mayClose;
    }

    void open(RSocketConnector connector) {
      byte[] credentials = Wire.credentials();
      if (credentials != null) {
        connector.setupPayload(Wire.payload(new byte[0], credentials));
      }
      rsocket =
          connector
              .dataMimeType(Wire.OCTETS)
              .metadataMimeType(Wire.COMPOSITE)
              .connect(Wire.transport(uri, bytesIn))
              .block();
      rsocket
          .onClose()
          .subscribe(
              nothing -> {},
              error -> {
                if (!mayClose) closed.completeExceptionally(error);
              },
              () -> {
                if (!mayClose) closed.complete(null);
              });
    }

    RSocket rsocket() {
      return rsocket;
    }

    long bytesIn() {
      return bytesIn.get();
    }

    void close() {
      mayClose = true;
      if (rsocket != null) {
        rsocket.dispose();
      }
    }
  }
}
