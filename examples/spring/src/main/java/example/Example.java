package example;

import static org.springframework.util.MimeTypeUtils.APPLICATION_JSON;

import java.net.URI;
import java.util.List;
import org.springframework.boot.CommandLineRunner;
import org.springframework.boot.SpringApplication;
import org.springframework.boot.autoconfigure.SpringBootApplication;
import org.springframework.context.annotation.Bean;
import org.springframework.messaging.rsocket.RSocketRequester;
import org.springframework.security.rsocket.metadata.SimpleAuthenticationEncoder;
import org.springframework.security.rsocket.metadata.UsernamePasswordMetadata;
import org.springframework.util.MimeType;
import reactor.core.publisher.Flux;

/**
 * A client in Spring Boot: {@code mvn spring-boot:run
 * -Dspring-boot.run.arguments=tcp://HOST:PORT}.
 */
@SpringBootApplication
public class Example {
  record Range(long from, long to) {}

  public static void main(String[] args) {
    SpringApplication.run(Example.class, args);
  }

  @Bean
  CommandLineRunner run(RSocketRequester.Builder builder) {
    return args -> {
      URI uri = URI.create(args.length > 0 ? args[0] : "tcp://127.0.0.1:7878");

      // Connect, which happens with the first request, and say who we are.
      var authentication = MimeType.valueOf("message/x.rsocket.authentication.v0");
      var ann = new UsernamePasswordMetadata("ann", "s3cr3t");
      RSocketRequester requester =
          builder
              .dataMimeType(APPLICATION_JSON)
              .rsocketStrategies(s -> s.encoder(new SimpleAuthenticationEncoder()))
              .setupMetadata(ann, authentication)
              .tcp(uri.getHost(), uri.getPort());

      // One request, one answer.
      String answer = requester.route("echo").data("hello").retrieveMono(String.class).block();
      System.out.println("echo: " + answer);

      // A stream, at most four items ahead: the service sends no more than was asked for.
      List<String> numbers =
          requester
              .route("range")
              .data(new Range(0, 10))
              .retrieveFlux(Long.class)
              .limitRate(4)
              .map(String::valueOf)
              .collectList()
              .block();
      System.out.println("range: " + String.join(" ", numbers));

      // A channel: items go both ways.
      Flux<String> words = Flux.just("one", "two", "three");
      List<String> echoed =
          requester.route("echo").data(words).retrieveFlux(String.class).collectList().block();
      System.out.println("channel: " + String.join(" ", echoed));

      requester.dispose();
    };
  }
}
