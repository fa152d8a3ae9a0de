package rsock.interop;

import io.netty.buffer.ByteBuf;
import io.netty.buffer.ByteBufAllocator;
import io.rsocket.DuplexConnection;
import io.rsocket.RSocketErrorException;
import io.rsocket.core.RSocketConnector;
import io.rsocket.frame.FrameHeaderCodec;
import io.rsocket.frame.FrameType;
import io.rsocket.frame.RequestChannelFrameCodec;
import io.rsocket.frame.RequestNFrameCodec;
import io.rsocket.frame.RequestStreamFrameCodec;
import io.rsocket.plugins.DuplexConnectionInterceptor;
import java.net.SocketAddress;
import java.util.ArrayList;
import java.util.List;
import reactor.core.publisher.Flux;
import reactor.core.publisher.Mono;

/** The frames of a connection, as they come and go. */
final class FrameLog {
  /** One frame; {@code n} is its request-n, 0 where it has none. */
  record Entry(boolean isOurs, FrameType type, long n) {}

  private final List<Entry> entries = new ArrayList<>();

  void attach(RSocketConnector connector) {
    connector.interceptors(
        registry ->
            registry.forConnection(
                (type, connection) ->
                    type == DuplexConnectionInterceptor.Type.SOURCE
                        ? new Logged(connection)
                        : connection));
  }

  synchronized List<Entry> entries() {
    return List.copyOf(entries);
  }

  long count(boolean isOurs, FrameType type) {
    return entries().stream()
        .filter(entry -> entry.isOurs() == isOurs && entry.type() == type)
        .count();
  }

  private synchronized void add(boolean isOurs, ByteBuf frame) {
    FrameType type = FrameHeaderCodec.frameType(frame);
    long n =
        switch (type) {
          case REQUEST_STREAM -> RequestStreamFrameCodec.initialRequestN(frame);
          case REQUEST_CHANNEL -> RequestChannelFrameCodec.initialRequestN(frame);
          case REQUEST_N -> RequestNFrameCodec.requestN(frame);
          default -> 0;
        };
    entries.add(new Entry(isOurs, type, n));
  }

  private final class Logged implements DuplexConnection {
    private final DuplexConnection inner;

    Logged(DuplexConnection inner) {
      this.inner = inner;
    }

    @Override
    public void sendFrame(int streamId, ByteBuf frame) {
      add(true, frame);
      inner.sendFrame(streamId, frame);
    }

    @Override
    public void sendErrorAndClose(RSocketErrorException error) {
      inner.sendErrorAndClose(error);
    }

    @Override
    public Flux<ByteBuf> receive() {
      return inner.receive().doOnNext(frame -> add(false, frame));
    }

    @Override
    public ByteBufAllocator alloc() {
      return inner.alloc();
    }

    @Override
    public SocketAddress remoteAddress() {
      return inner.remoteAddress();
    }

    @Override
    public Mono<Void> onClose() {
      return inner.onClose();
    }

    @Override
    public void dispose() {
      inner.dispose();
    }
  }
}
