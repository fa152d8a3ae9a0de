package rsock.interop;

import java.util.Arrays;
import java.util.Set;
import org.junit.platform.engine.FilterResult;
import org.junit.platform.engine.TestExecutionResult;
import org.junit.platform.engine.discovery.DiscoverySelectors;
import org.junit.platform.engine.support.descriptor.MethodSource;
import org.junit.platform.launcher.LauncherDiscoveryRequest;
import org.junit.platform.launcher.PostDiscoveryFilter;
import org.junit.platform.launcher.TestExecutionListener;
import org.junit.platform.launcher.TestIdentifier;
import org.junit.platform.launcher.core.LauncherDiscoveryRequestBuilder;
import org.junit.platform.launcher.core.LauncherFactory;

/**
 * Runs TransportTest in the ways that Variants has.
 *
 * <p>Usage: {@code java -Drsock.plain.tcp=URI ... Run [VARIANT|VARIANT-CASE...]}. One line a case on
 * stdout. Exit code 1 when a case failed.
 */
public final class Run {
  private Run() {}

  public static void main(String[] args) {
    Set<String> wanted = Set.of(args);
    var selectors =
        Arrays.stream(Variants.ALL).map(DiscoverySelectors::selectClass).toList();
    // A case is wanted by its own name, by that of its variant, or where nothing is named.
    PostDiscoveryFilter named =
        test -> {
          boolean isWanted =
              !(test.getSource().orElse(null) instanceof MethodSource method)
                  || wanted.isEmpty()
                  || wanted.contains(method.getJavaClass().getSimpleName())
                  || wanted.contains(name(method));
          return FilterResult.includedIf(isWanted);
        };
    LauncherDiscoveryRequest request =
        LauncherDiscoveryRequestBuilder.request()
            .selectors(selectors)
            .filters(named)
            .configurationParameter("junit.jupiter.execution.timeout.default", "120 s")
            .configurationParameter(
                "junit.jupiter.execution.timeout.thread.mode.default", "SEPARATE_THREAD")
            .build();
    var lines = new Lines();
    LauncherFactory.create().execute(request, lines);
    Variant.RESUMES.forEach(
        (variant, times) -> {
          boolean isResumed = variant.endsWith("Resumed");
          boolean isRight = isResumed == times > 0;
          lines.failed |= !isRight;
          if (isResumed || !isRight) {
            String word = isRight ? "ok" : "FAIL";
            System.out.printf("%s %s-resumes: %d times%n", word, variant, times);
          }
        });
    System.exit(lines.failed ? 1 : 0);
  }

  private static String name(MethodSource method) {
    return method.getJavaClass().getSimpleName() + "-" + method.getMethodName();
  }

  private static final class Lines implements TestExecutionListener {
    private boolean failed;
    private long started;

    @Override
    public void executionStarted(TestIdentifier test) {
      started = System.nanoTime();
    }

    @Override
    public void executionSkipped(TestIdentifier test, String reason) {
      if (test.isTest()) {
        System.out.printf("skip %s: %s%n", name(test), reason);
      }
    }

    @Override
    public void executionFinished(TestIdentifier test, TestExecutionResult result) {
      String problem = result.getThrowable().map(Lines::inOneLine).orElse("");
      switch (result.getStatus()) {
        case SUCCESSFUL -> {
          if (test.isTest()) {
            long millis = (System.nanoTime() - started) / 1_000_000;
            System.out.printf("ok %s: %d ms%n", name(test), millis);
          }
        }
        case ABORTED -> System.out.printf("skip %s: %s%n", name(test), problem);
        case FAILED -> {
          failed = true;
          System.out.printf("FAIL %s: %s%n", name(test), problem);
        }
      }
    }

    private static String name(TestIdentifier test) {
      var source = test.getSource().orElse(null);
      return source instanceof MethodSource method
          ? Run.name(method)
          : test.getLegacyReportingName();
    }

    private static String inOneLine(Throwable error) {
      String line = error.toString().replaceAll("\\s*\\n\\s*", " ");
      return line.length() > 300 ? line.substring(0, 300) + " ..." : line;
    }
  }
}
