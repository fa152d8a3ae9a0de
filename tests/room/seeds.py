"""The program of Flutter's recipe for WebSockets, in Python: connect, listen, sink.add, close."""

import asyncio
import json
import sys

import websockets


async def main(url, count, *texts):
    async with websockets.connect(url) as channel:
        for text in texts:
            await channel.send(text)
        print(json.dumps([await channel.recv() for _ in range(int(count))]))


asyncio.run(main(*sys.argv[1:]))
