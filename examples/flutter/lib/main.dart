// The room in the widgets of flutter_chat_ui 2. flutter run --dart-define=SERVICE=ws://10.0.2.2:7879 --dart-define=NAME=ann

import 'package:flutter/material.dart';
import 'package:flutter_chat_core/flutter_chat_core.dart';
import 'package:flutter_chat_ui/flutter_chat_ui.dart';

import 'room.dart';

const service = String.fromEnvironment('SERVICE', defaultValue: 'ws://127.0.0.1:7879');
const topic = String.fromEnvironment('ROOM', defaultValue: 'room.lobby');
const name = String.fromEnvironment('NAME', defaultValue: 'ann');

void main() => runApp(const MaterialApp(home: RoomPage()));

class RoomPage extends StatefulWidget {
  const RoomPage({super.key});

  @override
  State<RoomPage> createState() => _RoomPageState();
}

class _RoomPageState extends State<RoomPage> {
  final _room = Room(Uri.parse(service), topic, name);
  final _shown = InMemoryChatController();
  String _state = 'connecting';

  @override
  void initState() {
    super.initState();
    _take();
  }

  @override
  void dispose() {
    _room.close();
    _shown.dispose();
    super.dispose();
  }

  Future<void> _take() async {
    await for (final event in _room.events) {
      if (!mounted) return;
      switch (event) {
        case Before(:final messages):
          // Those of one's own that were sent again are shown already.
          await _shown.insertAllMessages([
            for (final message in messages)
              if (!await _isSent(message)) _of(message),
          ]);
        case Said(:final message):
          if (!await _isSent(message)) await _shown.insertMessage(_of(message));
        case Refused(:final id, :final reason):
          final old = _find(id);
          if (old != null) await _shown.updateMessage(old, old.copyWith(failedAt: DateTime.now().toUtc()));
          _tell(reason);
        case Missed(:final what):
          _tell(what);
        case Connection(:final isThere, :final why):
          setState(() => _state = isThere ? 'connected' : 'the line is lost; trying again${why == null ? '' : ': $why'}');
      }
    }
  }

  /// Whether it is one that is shown since it was typed: now it is in the room.
  Future<bool> _isSent(RoomMessage message) async {
    final old = _find(message.id);
    if (old == null) return false;
    await _shown.updateMessage(old, old.copyWith(sentAt: message.time));
    return true;
  }

  TextMessage? _find(String id) => _shown.messages.whereType<TextMessage>().where((message) => message.id == id).firstOrNull;

  TextMessage _of(RoomMessage message) => TextMessage(
        id: message.id,
        authorId: message.from,
        createdAt: message.time,
        sentAt: message.time,
        text: message.text,
      );

  void _tell(String what) => ScaffoldMessenger.of(context).showSnackBar(SnackBar(content: Text(what)));

  void _send(String text) {
    final id = _room.send(text);
    _shown.insertMessage(TextMessage(id: id, authorId: name, createdAt: DateTime.now().toUtc(), text: text));
  }

  @override
  Widget build(BuildContext context) => Scaffold(
        appBar: AppBar(title: Text(topic), bottom: PreferredSize(preferredSize: const Size.fromHeight(24), child: Text(_state))),
        body: Chat(
          chatController: _shown,
          currentUserId: name,
          onMessageSend: _send,
          resolveUser: (id) async => User(id: id, name: id),
        ),
      );
}
