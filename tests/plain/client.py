"""The same client as client.mjs, in Python: one who has read docs/websocket.md writes it within the hour."""

import asyncio
import json
import sys

import websockets


def tell(*words):
    print(*words, flush=True)


async def main(url, token=None):
    credit = {}

    async def say(**message):
        await socket.send(json.dumps(message))

    async def flush(channel_id):
        channel = credit[channel_id]
        while channel["n"] > 0 and channel["waiting"]:
            channel["n"] -= 1
            await say(id=channel_id, next=channel["waiting"].pop(0))
        if channel["ends"] and not channel["waiting"]:
            channel["ends"] = False
            await say(id=channel_id, complete=True)

    async def listen():
        try:
            async for text in socket:
                message = json.loads(text)
                number = message.get("id")
                if "next" in message:
                    tell("next", number, json.dumps(message["next"], separators=(",", ":")))
                if "text" in message:
                    tell("text", number, json.dumps(message["text"]))
                if "base64" in message:
                    tell("base64", number, message["base64"])
                if message.get("complete"):
                    tell("complete", number)
                if "error" in message:
                    tell("error", number, message["error"]["code"])
                for name in ("pong", "drain"):
                    if name in message:
                        tell(name, message[name])
                if "n" in message and number in credit:
                    credit[number]["n"] += message["n"]
                    await flush(number)
        except websockets.ConnectionClosed:
            pass
        tell("closed", socket.close_code)

    async def obey():
        loop = asyncio.get_running_loop()
        while line := (await loop.run_in_executor(None, sys.stdin.readline)).strip():
            verb, *rest = line.split(" ")
            if verb == "forget":
                await say(fnf=rest[0], **({"data": json.loads(rest[1])} if len(rest) > 1 else {}))
                continue
            number = int(rest[0]) if rest else 0
            data = {"data": json.loads(rest[2])} if len(rest) > 2 else {}
            if verb == "request":
                await say(id=number, request=rest[1], **data)
            elif verb == "stream":
                await say(id=number, stream=rest[1], **data, **({"n": int(rest[3])} if len(rest) > 3 else {}))
            elif verb == "channel":
                credit[number] = {"n": 0, "waiting": [], "ends": False}
                await say(id=number, channel=rest[1], **data)
            elif verb == "send":
                credit[number]["waiting"].append(json.loads(rest[1]))
                await flush(number)
            elif verb == "end":
                credit[number]["ends"] = True
                await flush(number)
            elif verb == "more":
                await say(id=number, n=int(rest[1]))
            elif verb == "cancel":
                await say(id=number, cancel=True)
            elif verb == "ping":
                await say(ping=number)
            elif verb == "close":
                await socket.close(1000)

    async with websockets.connect(url, subprotocols=["rsock.json.v1"]) as socket:
        if token:
            await say(auth=token)
        tell("open")
        obeying = asyncio.create_task(obey())
        await listen()
        obeying.cancel()


asyncio.run(main(*sys.argv[1:]))
