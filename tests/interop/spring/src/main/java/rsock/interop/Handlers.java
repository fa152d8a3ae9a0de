package rsock.interop;

import io.rsocket.exceptions.RejectedSetupException;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.stream.LongStream;
import org.springframework.messaging.handler.annotation.DestinationVariable;
import org.springframework.messaging.handler.annotation.Header;
import org.springframework.messaging.handler.annotation.MessageMapping;
import org.springframework.messaging.handler.annotation.Payload;
import org.springframework.messaging.rsocket.annotation.ConnectMapping;
import org.springframework.security.core.context.ReactiveSecurityContextHolder;
import org.springframework.stereotype.Controller;
import reactor.core.publisher.Flux;
import reactor.core.publisher.Mono;

/** Routes as rsockd has them, and some of its own. */
@Controller
class Handlers {
  private static String text(byte[] data) {
    return new String(data, StandardCharsets.UTF_8);
  }

  record Range(long from, Long to) {}

  record Greeting(String name, int times) {}

  record Greeted(String text, int length) {}

  @MessageMapping("echo")
  Mono<byte[]> echo(@Payload(required = false) byte[] data) {
    return Mono.just(data == null ? new byte[0] : data);
  }

  @MessageMapping("echo")
  Flux<byte[]> echo(Flux<byte[]> items) {
    return items;
  }

  @MessageMapping("forget")
  Mono<Void> forget(@Payload byte[] data) {
    Server.say("got fnf " + text(data));
    return Mono.empty();
  }

  @MessageMapping("fail")
  Mono<String> fail(@Payload byte[] data) {
    return Mono.error(new IllegalStateException(text(data)));
  }

  @MessageMapping("fail")
  Flux<String> failLater(@Payload byte[] data) {
    return Flux.just("one").concatWith(Mono.error(new IllegalStateException(text(data))));
  }

  @MessageMapping("range")
  Flux<Long> range(Range range) {
    long to = range.to() == null ? Long.MAX_VALUE : range.to();
    return Flux.fromStream(() -> LongStream.range(range.from(), to).boxed());
  }

  @MessageMapping("clock")
  Flux<Long> clock() {
    return Flux.interval(Duration.ofMillis(20)).onBackpressureDrop();
  }

  /** Of a type, and to another. */
  @MessageMapping("greet.{language}")
  Mono<Greeted> greet(
      @DestinationVariable String language,
      Greeting greeting) {
    String hello = language.equals("de") ? "Hallo " : "Hello ";
    String text = (hello + greeting.name() + "! ").repeat(greeting.times()).strip();
    return Mono.just(new Greeted(text, text.length()));
  }

  @MessageMapping("whoami")
  Mono<String> whoami() {
    return ReactiveSecurityContextHolder.getContext()
        .map(context -> context.getAuthentication().getName());
  }

  /** For SETUP, and for every metadata push. */
  @ConnectMapping
  Mono<Void> connected(
      @Header(name = "text", required = false) String text,
      @Payload(required = false) byte[] data) {
    if (text != null) {
      Server.say("got push " + text);
    }
    if (data != null && text(data).equals("reject")) {
      return Mono.error(new RejectedSetupException("not you"));
    }
    return Mono.empty();
  }
}
