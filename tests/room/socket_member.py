"""A member of a room by Python's websockets."""

import asyncio
import json
import sys

import websockets


def tell(**what):
    print(json.dumps(what), flush=True)


class Member:
    def __init__(self, url, name, topic):
        self.address = f"{url}/ws/topics/{topic}?name={name}&envelope=json"
        self.position = None
        self.said = asyncio.Queue()
        self.unsent = None

    async def talk(self, socket):
        while True:
            self.unsent = self.unsent or await self.said.get()
            await socket.send(self.unsent)
            self.unsent = None

    async def listen(self, socket):
        async for line in socket:
            item = json.loads(line)
            epoch, offset, gap = item.get("epoch"), item.get("offset"), item.get("gap")
            if start := item.get("start"):
                self.position = self.position or f"{start['epoch']}:{start['next'] - 1}"
                tell(joined=True)
            elif "refused" in item:
                tell(broken=item["refused"])
            elif gap:
                self.position = f"{epoch}:{gap.get('to', item.get('base', 1) - 1)}"
                tell(epoch=epoch, gap=gap)
            elif offset is not None:
                self.position = f"{epoch}:{offset}"
                tell(epoch=epoch, offset=offset, text=item["text"])

    async def stay(self):
        while True:
            try:
                place = f"after={self.position}" if self.position else "from=start"
                async with websockets.connect(f"{self.address}&{place}") as socket:
                    talking = asyncio.create_task(self.talk(socket))
                    try:
                        await self.listen(socket)
                    finally:
                        talking.cancel()
            except (OSError, EOFError, websockets.WebSocketException):
                pass
            await asyncio.sleep(0.05)


async def main(url, name, topic):
    member = Member(url, name, topic)
    staying = asyncio.create_task(member.stay())
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        member.said.put_nowait(line.rstrip("\n"))
    staying.cancel()
    await asyncio.wait([staying])


asyncio.run(main(*sys.argv[1:]))
