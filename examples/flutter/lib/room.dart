// A room of rsockd over a plain WebSocket, /ws/topics/{topic}, which outlives its connections. Pure Dart.
//
// The position of the last message that was handed over is all there is to keep: a new connection goes on behind it. What
// was sent and has not come back is sent again, with the id that it has in its data: whoever has read it knows it.

import 'dart:async';
import 'dart:convert';
import 'dart:math';

import 'package:web_socket_channel/web_socket_channel.dart';

import 'connect_web.dart' if (dart.library.io) 'connect_io.dart';

class RoomMessage {
  const RoomMessage(this.id, this.from, this.time, this.text);

  final String id;
  final String from;
  final DateTime time;
  final String text;
}

sealed class RoomEvent {
  const RoomEvent();
}

/// What there was: at the beginning, and of the time without a connection.
class Before extends RoomEvent {
  const Before(this.messages);
  final List<RoomMessage> messages;
}

/// A message, one's own too: then it is in the room.
class Said extends RoomEvent {
  const Said(this.message);
  final RoomMessage message;
}

/// A message of one's own that the service does not take.
class Refused extends RoomEvent {
  const Refused(this.id, this.reason);
  final String id;
  final String reason;
}

/// Messages that are not kept any more, or a room that began anew.
class Missed extends RoomEvent {
  const Missed(this.what);
  final String what;
}

class Connection extends RoomEvent {
  const Connection(this.isThere, [this.why]);
  final bool isThere;
  final String? why;
}

class Room {
  /// [service] is `ws://HOST:PORT`, or `wss://HOST`.
  Room(this.service, this.topic, this.name, {this.last = 50}) {
    unawaited(_run());
  }

  final Uri service;
  final String topic;
  final String name;
  final int last;

  /// Closing codes behind which it is of no use to try again: not understood, unknown, not permitted, not there, over.
  static const _final = {4000, 4001, 4003, 4004, 4010};
  static const _first = Duration(milliseconds: 250);
  static const _longest = Duration(seconds: 15);

  final _events = StreamController<RoomEvent>();
  final _random = Random.secure();

  /// By their ids, in the order in which they were sent.
  final _outbox = <String, String>{};

  /// Ids of the newest messages: one that was sent again may be in the room twice.
  final _seen = <String>{};
  WebSocketChannel? _channel;
  Completer<void>? _over;
  String? _position;
  bool _isClosed = false;

  /// What there was is gathered until this offset has come.
  int _head = 0;
  List<RoomMessage>? _before;
  bool _hasBegun = false;

  Stream<RoomEvent> get events => _events.stream;

  /// Where a later room goes on; to be stored.
  String? get position => _position;

  /// Says something, at once or when there is a connection. Gives the id of the message.
  String send(String text) {
    final bytes = List.generate(16, (_) => _random.nextInt(256));
    final id = bytes.map((byte) => byte.toRadixString(16).padLeft(2, '0')).join();
    _outbox[id] = text;
    _channel?.sink.add(jsonEncode({'id': id, 'text': text}));
    return id;
  }

  void close() {
    _isClosed = true;
    _end();
  }

  void _end() {
    final over = _over;
    if (over != null && !over.isCompleted) over.complete();
  }

  Uri get _address => service.replace(
        pathSegments: ['ws', 'topics', topic],
        queryParameters: {
          'name': name,
          'envelope': 'json',
          if (_position case final position?) 'after': position else 'last': '$last',
        },
      );

  Future<void> _run() async {
    var wait = _first;
    while (!_isClosed) {
      final channel = connect(_address);
      final over = _over = Completer<void>();
      String? why;
      Timer? silence;
      var isRenewed = false;
      void heard() {
        silence?.cancel();
        if (renewal case final after?) {
          silence = Timer(after, () {
            isRenewed = true;
            _end();
          });
        }
      }

      _hasBegun = false;
      try {
        await channel.ready.timeout(const Duration(seconds: 10));
        final subscription = channel.stream.listen(
          (message) {
            heard();
            _take(jsonDecode(message as String) as Map<String, dynamic>);
          },
          onError: (Object error) {
            why = '$error';
            _end();
          },
          onDone: _end,
          cancelOnError: true,
        );
        heard();
        _channel = channel;
        for (final MapEntry(:key, :value) in _outbox.entries) {
          channel.sink.add(jsonEncode({'id': key, 'text': value}));
        }
        await over.future;
        await subscription.cancel();
      } catch (error) {
        // Nobody listens there, or the answer was no WebSocket's.
        why = '$error';
      }
      silence?.cancel();
      _channel = null;
      // The position is behind what was gathered.
      _tellBefore();
      // Not waited for: the other side of a dead line does not answer.
      unawaited(channel.sink.close().catchError((_) {}));
      if (_isClosed) break;
      if (_hasBegun) wait = _first;
      if (isRenewed) continue;
      final reason = channel.closeReason ?? '';
      _tell(Connection(false, reason.isEmpty ? why : reason));
      if (_final.contains(channel.closeCode)) break;
      await Future<void>.delayed(wait * (0.5 + _random.nextDouble()));
      wait = wait * 2 < _longest ? wait * 2 : _longest;
    }
    await _events.close();
  }

  void _tell(RoomEvent event) {
    if (!_isClosed) _events.add(event);
  }

  void _tellBefore() {
    final before = _before;
    _before = null;
    if (before != null && before.isNotEmpty) _tell(Before(before));
  }

  void _take(Map<String, dynamic> item) {
    if (item case {'start': {'epoch': final String epoch, 'next': final int next, 'head': final int head}}) {
      // Known before there is any message, so that none is missed either.
      _position = '$epoch:${next - 1}';
      _hasBegun = true;
      _head = head;
      _before = next <= head ? [] : null;
      _tell(const Connection(true));
    } else if (item case {'gap': final Map<String, dynamic> gap, 'epoch': final String epoch}) {
      final behind = gap['to'] ?? (item['base'] as int? ?? 1) - 1;
      _position = '$epoch:$behind';
      _tell(Missed(gap['to'] == null ? 'the room began anew' : 'messages ${gap['from']} to ${gap['to']} are not kept any more'));
    } else if (item case {'refused': {'reason': final String reason}}) {
      // Answers come in the order in which messages were sent.
      final id = _outbox.keys.firstOrNull;
      _outbox.remove(id);
      if (id != null) _tell(Refused(id, reason));
    } else if (item case {'epoch': final String epoch, 'offset': final int offset}) {
      _position = '$epoch:$offset';
      final message = _messageOf(item);
      _outbox.remove(message.id);
      if (_seen.add(message.id)) {
        if (_seen.length > 1000) _seen.remove(_seen.first);
        final before = _before;
        if (before == null) {
          _tell(Said(message));
        } else {
          before.add(message);
        }
      }
      if (offset >= _head) _tellBefore();
    }
    // Anything else may come with a newer service, and is passed over.
  }

  RoomMessage _messageOf(Map<String, dynamic> item) {
    final from = item['from'] as String? ?? 'somebody';
    final time = DateTime.fromMillisecondsSinceEpoch(item['time'] as int? ?? 0, isUtc: true);
    if (item['data'] case {'id': final String id, 'text': final String text}) return RoomMessage(id, from, time, text);
    // Of somebody with another program.
    final text = item['text'] as String? ?? (item.containsKey('data') ? jsonEncode(item['data']) : 'bytes');
    return RoomMessage('${item['epoch']}:${item['offset']}', from, time, text);
  }
}
