"""The program of WebSocket recipes: connect, listen, send, close."""

import asyncio
import sys

import websockets


async def main(url):
    async with websockets.connect(url) as channel:
        await channel.send("hello")
        await channel.send(b"\x00\xff")
        for _ in range(2):
            print(await channel.recv())
    print("the end:", channel.close_code)


asyncio.run(main(sys.argv[1]))
