package rsock.interop;

import io.rsocket.Payload;
import java.util.ArrayList;
import java.util.List;
import org.reactivestreams.Subscription;
import reactor.core.publisher.BaseSubscriber;

/** What arrived on a stream, and how it ended. */
final class Inbox extends BaseSubscriber<Payload> {
  private final long first;
  private final int cancelAfter;
  private final List<String> texts = new ArrayList<>();
  private final List<String> besides = new ArrayList<>();
  private boolean isDone;
  private Throwable error;

  /** Asks for {@code first} items, and cancels when {@code cancelAfter} have come. */
  Inbox(long first, int cancelAfter) {
    this.first = first;
    this.cancelAfter = cancelAfter;
  }

  @Override
  protected void hookOnSubscribe(Subscription subscription) {
    request(first);
  }

  @Override
  protected synchronized void hookOnNext(Payload item) {
    texts.add(item.getDataUtf8());
    besides.add(item.hasMetadata() ? Wire.json(item) : "");
    if (texts.size() == cancelAfter) {
      cancel();
    }
    notifyAll();
  }

  @Override
  protected synchronized void hookOnComplete() {
    isDone = true;
    notifyAll();
  }

  @Override
  protected synchronized void hookOnError(Throwable error) {
    this.error = error;
    isDone = true;
    notifyAll();
  }

  synchronized void awaitItems(int count) throws Exception {
    while (!isDone && texts.size() < count) {
      wait();
    }
    if (error != null) {
      throw new IllegalStateException(error);
    }
  }

  synchronized List<String> texts() {
    return List.copyOf(texts);
  }

  /** The JSON beside each item. */
  synchronized List<String> besides() {
    return List.copyOf(besides);
  }

  synchronized boolean isDone() {
    return isDone;
  }
}
