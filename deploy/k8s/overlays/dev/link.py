"""The link between edges and the hub in the overlay dev: hands TCP on. Nobody scales it to 0 but to cut the link.

python3 link.py [HOST:]PORT TO_HOST TO_PORT
"""

import asyncio
import sys

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    try:
        while data := await source.read(65536):
            sink.write(data)
            await sink.drain()
    except OSError:
        pass
    finally:
        sink.close()


async def main(listen: str, host: str, port: int) -> None:
    async def accepted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            onward_reader, onward = await asyncio.open_connection(host, port)
        except OSError:
            return writer.close()
        await asyncio.gather(pump(reader, onward), pump(onward_reader, writer))

    address, _, own = listen.rpartition(":")
    server = await asyncio.start_server(accepted, address or "0.0.0.0", int(own))  # noqa: S104 - a pod of its own
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
