package rsock.interop;

import static rsock.interop.Cases.check;
import static rsock.interop.Cases.request;
import static rsock.interop.Cases.roundTrip;

import io.rsocket.Payload;
import io.rsocket.exceptions.RejectedException;
import java.util.ArrayList;
import java.util.List;
import java.util.UUID;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import java.util.stream.IntStream;
import reactor.core.publisher.Sinks;
import rsock.interop.Client.Connection;

/** The cases of topics, as in lib/topics.mjs; each has a topic of its own. */
final class Topics {
  private static final int BATCH = 3;
  private static final String NOWHERE = "0000000000000000";
  private static final Pattern ACKNOWLEDGEMENT =
      Pattern.compile(
          "\\{\"topic\":\"([^\"]+)\",\"epoch\":\"([0-9a-f]{16})\",\"offset\":(\\d+)(,\"duplicate\":true)?}");
  // The time, which is the only thing about a message that is not known before.
  private static final Pattern TIME = Pattern.compile("\"time\":1\\d{12}");

  private Topics() {}

  /** Where a message is. */
  private record Place(String topic, String epoch, long offset, boolean isDuplicate) {}

  private static String newTopic() {
    return "interop." + UUID.randomUUID();
  }

  private static Place publish(Connection connection, String topic, String data, String options) {
    byte[] metadata = Wire.metadataWithJson(options, "topic." + topic);
    Payload request = Wire.payload(Wire.bytes(data), metadata);
    String answer = connection.rsocket().requestResponse(request).block().getDataUtf8();
    Matcher found = ACKNOWLEDGEMENT.matcher(answer);
    check(found.matches(), "the acknowledgement is %s", answer);
    long offset = Long.parseLong(found.group(3));
    return new Place(found.group(1), found.group(2), offset, found.group(4) != null);
  }

  private static Inbox open(Connection connection, String route, String options, long first) {
    var inbox = new Inbox(first, Integer.MAX_VALUE);
    connection.rsocket().requestStream(Wire.routed(route, options)).subscribe(inbox);
    return inbox;
  }

  private static void same(Object actual, Object expected, String what) {
    check(expected.equals(actual), "%s: got %s", what, actual);
  }

  private static String timeless(String json) {
    return TIME.matcher(json).replaceAll("\"time\":0");
  }

  /** What is said beside a message, without its time. */
  private static String message(Place place, long offset, String from, String... more) {
    var json = new StringBuilder("{\"topic\":\"%s\",\"epoch\":\"%s\",\"offset\":%d,\"time\":0");
    if (!from.isEmpty()) {
      json.append(",\"from\":\"").append(from).append('"');
    }
    for (String field : more) {
      json.append(',').append(field);
    }
    return json.append('}').toString().formatted(place.topic(), place.epoch(), offset);
  }

  // With an id a message is published once, and both acknowledgements say where it is.
  static void publishOnce(Connection connection) {
    String topic = newTopic();
    String once = "{\"id\":\"m-1\",\"from\":\"ann\"}";
    Place first = publish(connection, topic, "once", once);
    same(first.topic(), topic, "the topic");
    check(!first.isDuplicate(), "the first is a duplicate");
    Place again = publish(connection, topic, "once", once);
    same(again, new Place(topic, first.epoch(), first.offset(), true), "the second acknowledgement");
    String expecting = "{\"expect\":%d}".formatted(first.offset());
    Place second = publish(connection, topic, "twice", expecting);
    same(second.offset(), first.offset() + 1, "the offset of another message");
    try {
      publish(connection, topic, "late", expecting);
      throw new AssertionError("what was not expected was published");
    } catch (RejectedException error) {
      check(error.getMessage().startsWith("conflict:"), "the error is %s", error);
    }
    String page = request(connection, "history." + topic, "{\"limit\":10}");
    same(
        Pattern.compile("\"text\":\"(\\w+)\"").matcher(page).results().map(m -> m.group(1)).toList(),
        List.of("once", "twice"),
        "the history");
  }

  // Nothing comes beyond what was asked for, also of the items that are the service's own: a start,
  // fifteen messages and in between the word that these are live.
  static void subscribe(Connection connection) throws Exception {
    String topic = newTopic();
    Place first = publish(connection, topic, "message 0", "{\"from\":\"ann\"}");
    for (int i = 1; i < 12; i++) {
      publish(connection, topic, "message " + i, "{\"from\":\"ann\"}");
    }
    Inbox witness = open(connection, "topic." + topic, "{\"start\":true}", 100);
    witness.awaitItems(1);
    String options = "{\"from\":\"start\",\"start\":true,\"live\":true}";
    Inbox inbox = open(connection, "topic." + topic, options, BATCH);
    for (int asked = BATCH; ; asked += BATCH) {
      int here = Math.min(asked, 14);
      inbox.awaitItems(here);
      roundTrip(connection);
      same(inbox.texts().size(), here, "the number of items, of %d asked for".formatted(asked));
      if (asked > 14) {
        break;
      }
      inbox.request(BATCH);
    }
    // One more is asked for.
    for (int i = 12; i < 15; i++) {
      publish(connection, topic, "message " + i, "{\"from\":\"bob\"}");
    }
    witness.awaitItems(4);
    roundTrip(connection);
    same(inbox.texts().size(), 15, "the number of items behind three more messages");
    inbox.request(BATCH);
    inbox.awaitItems(17);
    inbox.cancel();
    witness.cancel();

    long base = first.offset();
    long head = base + 11;
    List<String> besides = new ArrayList<>(inbox.besides().stream().map(Topics::timeless).toList());
    List<String> texts = new ArrayList<>(inbox.texts());
    String start = "{\"start\":{\"epoch\":\"%s\",\"next\":%d,\"base\":%d,\"head\":%d}}";
    same(besides.remove(0), start.formatted(first.epoch(), base, base, head), "the start");
    String live = "{\"live\":{\"epoch\":\"%s\",\"offset\":%d}}".formatted(first.epoch(), head);
    same(besides.remove(12), live, "the item that says live");
    same(texts.remove(0) + texts.remove(12), "", "the data of own items");
    same(texts, IntStream.range(0, 15).mapToObj(i -> "message " + i).toList(), "the messages");
    for (int i = 0; i < 15; i++) {
      same(besides.get(i), message(first, base + i, i < 12 ? "ann" : "bob"), "a message");
    }
  }

  // What is not kept any more is told, and also that a position belongs to another life of the
  // topic.
  static void gap(Connection connection) throws Exception {
    String topic = newTopic();
    Place first = publish(connection, topic, "lost", "{}");
    publish(connection, topic, "lost too", "{}");
    request(connection, "topics", "{\"purge\":\"%s\"}".formatted(topic));
    Place kept = publish(connection, topic, "kept", "{}");
    String message = message(kept, kept.offset(), "");

    String position = "{\"from\":{\"epoch\":\"%s\",\"after\":%d}}";
    String before = position.formatted(first.epoch(), first.offset() - 1);
    Inbox behind = open(connection, "topic." + topic, before, 2);
    behind.awaitItems(2);
    String gap =
        "{\"gap\":{\"from\":%d,\"to\":%d},\"epoch\":\"%s\"}"
            .formatted(first.offset(), kept.offset() - 1, first.epoch());
    same(behind.besides().stream().map(Topics::timeless).toList(), List.of(gap, message), "the gap");

    Inbox other = open(connection, "topic." + topic, position.formatted(NOWHERE, 7), 2);
    other.awaitItems(2);
    String reset =
        "{\"gap\":{\"epoch\":\"%s\",\"from\":8},\"epoch\":\"%s\",\"base\":%d}"
            .formatted(NOWHERE, first.epoch(), kept.offset());
    List<String> said = other.besides().stream().map(Topics::timeless).toList();
    same(said, List.of(reset, message), "the reset");
    behind.cancel();
    other.cancel();
  }

  // A member publishes and receives on one channel, and others see it come and go.
  static void join(Connection connection) throws Exception {
    String topic = newTopic();
    Inbox watch = open(connection, "presence." + topic, "{}", 100);
    watch.awaitItems(1);
    Sinks.Many<Payload> outgoing = Sinks.many().unicast().onBackpressureBuffer();
    String options =
        "{\"name\":\"ann\",\"receive\":\"both\",\"start\":true,\"info\":{\"avatar\":3}}";
    outgoing.tryEmitNext(Wire.routed("topic." + topic, options)).orThrow();
    var inbox = new Inbox(BATCH, Integer.MAX_VALUE);
    connection.rsocket().requestChannel(outgoing.asFlux()).subscribe(inbox);
    inbox.awaitItems(1);
    byte[] id = Wire.metadataWithJson("{\"id\":\"m-1\"}");
    outgoing.tryEmitNext(Wire.payload(Wire.bytes("hi"), id)).orThrow();
    inbox.awaitItems(2);
    Place place = publish(connection, topic, "hello, ann", "{\"from\":\"bob\"}");
    inbox.awaitItems(3);
    // There is no credit left for it.
    publish(connection, topic, "are you there?", "{\"from\":\"bob\"}");
    roundTrip(connection);
    same(inbox.texts().size(), BATCH, "the number of items");
    inbox.request(BATCH);
    inbox.awaitItems(4);
    same(inbox.texts(), List.of("", "hi", "hello, ann", "are you there?"), "the data");
    List<String> said = inbox.besides().stream().map(Topics::timeless).toList();
    check(said.get(0).startsWith("{\"start\":{"), "the start is %s", said.get(0));
    String own = message(place, place.offset() - 1, "ann", "\"own\":true", "\"id\":\"m-1\"");
    same(said.get(1), own, "what one has published oneself");
    same(said.get(2), message(place, place.offset(), "bob"), "what another has published");

    String members = request(connection, "presence." + topic, "{}");
    check(
        members.contains("\"name\":\"ann\",\"sessions\":1")
            && members.contains("\"info\":{\"avatar\":3}")
            && members.contains("\"total\":1"),
        "the members are %s",
        members);
    outgoing.tryEmitComplete().orThrow();
    inbox.cancel();
    watch.awaitItems(3);
    watch.cancel();
    List<String> events = watch.besides();
    same(events.get(0), "{\"event\":\"all\",\"total\":0}", "the first event");
    check(events.get(1).startsWith("{\"event\":\"join\",\"name\":\"ann\""), "%s", events.get(1));
    check(events.get(2).startsWith("{\"event\":\"leave\",\"name\":\"ann\""), "%s", events.get(2));
  }
}
