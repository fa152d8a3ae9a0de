import 'package:web_socket_channel/io.dart';
import 'package:web_socket_channel/web_socket_channel.dart';

/// Pings find a line that is dead: none is to be given up for its silence.
const Duration? renewal = null;

WebSocketChannel connect(Uri address) => IOWebSocketChannel.connect(
      address,
      pingInterval: const Duration(seconds: 20),
      connectTimeout: const Duration(seconds: 10),
    );
