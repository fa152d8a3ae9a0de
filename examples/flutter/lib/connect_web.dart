import 'package:web_socket_channel/web_socket_channel.dart';

/// A browser has no pings that a program could send or see. A line that was silent for so long is exchanged for a
/// new one, which goes on behind the last message: that costs a silent room a connection a minute, and nothing is missed.
const Duration? renewal = Duration(seconds: 60);

WebSocketChannel connect(Uri address) => WebSocketChannel.connect(address);
