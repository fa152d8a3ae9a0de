package rsock.interop;

/** One class for each way to a server. */
final class Variants {
  static final Class<?>[] ALL = {
    TcpPlain.class,
    TcpFragmented.class,
    TcpResumed.class,
    WsPlain.class,
    WsFragmented.class,
    WsResumed.class
  };

  private Variants() {}

  static final class TcpPlain extends Variant {
    TcpPlain() {
      super("plain.tcp", false, false);
    }
  }

  static final class TcpFragmented extends Variant {
    TcpFragmented() {
      super("fragmented.tcp", true, false);
    }
  }

  static final class TcpResumed extends Variant {
    TcpResumed() {
      super("resumed.tcp", false, true);
    }
  }

  static final class WsPlain extends Variant {
    WsPlain() {
      super("plain.ws", false, false);
    }
  }

  static final class WsFragmented extends Variant {
    WsFragmented() {
      super("fragmented.ws", true, false);
    }
  }

  static final class WsResumed extends Variant {
    WsResumed() {
      super("resumed.ws", false, true);
    }
  }
}
