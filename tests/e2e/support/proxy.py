"""A proxy that makes one link go wrong on demand: delay, slice, stall, cut, reset, refuse; and, where the link carries Redis,
the reply of a delivered command that never comes back. A thread with its own event loop; faults may be changed at any time.

    client ──► FaultProxy ──► target          up = towards the target, down = towards the client

A reply that is dropped takes its connection with it: on one connection a lost reply alone would shift all later ones, which no
network does."""

import asyncio
import socket
import struct
import threading


class Faults:
    """What goes wrong from now on, on every connection."""

    def __init__(self):
        self.clear()

    def clear(self):
        self.delay_up = self.delay_down = 0.0  # seconds for every piece
        self.slice = 0                         # at most that many bytes a write; 0: as they come
        self.stalled = False                   # nothing passes, either way; connections stay open
        self.refuse = False                    # new connections are reset at once
        self.cut_down_after = None             # RST after that many bytes towards the client, per connection
        self.cut_up_after = None               # RST after that many bytes towards the target, per connection
        self.drop_reply_every = 0              # Redis: every n-th reply, over all connections
        self.error_every = 0                   # Redis: every n-th reply becomes `error`
        self.error = b"-LOADING Redis is loading the dataset in memory\r\n"


class FaultProxy:
    """`target`: (host, port) or the path of a unix socket. `listen_path`: listen on a unix socket instead of a free port."""

    def __init__(self, target, listen_path=None):
        self.target, self.listen_path = target, listen_path
        self.faults = Faults()
        self.port = None
        self.connections = self.replies = self.dropped = 0
        self._open = set()
        self._loop = asyncio.new_event_loop()
        self._started = threading.Event()
        self._failure = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        self._started.wait(10)
        if self._failure is not None:
            raise self._failure

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    def reset_all(self):
        """RST to both sides of every connection that is open now."""
        asyncio.run_coroutine_threadsafe(self._reset_all(), self._loop).result(10)

    def close(self):
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    def _run(self):
        asyncio.set_event_loop(self._loop)
        try:
            self._server = self._loop.run_until_complete(self._listen())
        except OSError as failure:
            self._failure = failure
            return
        finally:
            self._started.set()
        self._loop.run_forever()

    async def _listen(self):
        if self.listen_path:
            return await asyncio.start_unix_server(self._serve, self.listen_path)
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        return server

    async def _reset_all(self):
        for writer in list(self._open):
            reset(writer)

    async def _close(self):
        self._server.close()
        await self._reset_all()
        for task in asyncio.all_tasks():
            if task is not asyncio.current_task():
                task.cancel()

    async def _connect(self):
        if isinstance(self.target, str):
            return await asyncio.open_unix_connection(self.target)
        return await asyncio.open_connection(*self.target)

    async def _serve(self, client_reader, client_writer):
        self.connections += 1
        if self.faults.refuse:
            reset(client_writer)
            return
        try:
            target_reader, target_writer = await self._connect()
        except OSError:
            reset(client_writer)
            return
        writers = (client_writer, target_writer)
        self._open.update(writers)
        try:
            await asyncio.gather(self._pump(client_reader, target_writer, writers, up=True),
                                 self._pump(target_reader, client_writer, writers, up=False))
        finally:
            self._open.difference_update(writers)
            for writer in writers:
                writer.close()

    async def _pump(self, reader, writer, writers, up):
        passed, replies = 0, Replies()
        try:
            while True:
                piece = await reader.read(65536)
                if not piece:
                    if not writer.is_closing() and writer.can_write_eof():
                        writer.write_eof()
                    return
                while self.faults.stalled:
                    await asyncio.sleep(0.005)
                delay = self.faults.delay_up if up else self.faults.delay_down
                if delay:
                    await asyncio.sleep(delay)
                if not up and (self.faults.drop_reply_every or self.faults.error_every):
                    piece, lost = self._spoil(piece, replies)
                    if lost:
                        await send(writer, piece, 0)
                        for each in writers:
                            reset(each)
                        return
                limit = self.faults.cut_up_after if up else self.faults.cut_down_after
                if limit is not None and passed + len(piece) >= limit:
                    await send(writer, piece[: max(0, limit - passed)], self.faults.slice)
                    for each in writers:
                        reset(each)
                    return
                passed += len(piece)
                await send(writer, piece, self.faults.slice)
        except (ConnectionError, asyncio.CancelledError):
            for each in writers:
                reset(each)

    def _spoil(self, piece, replies):
        """(bytes that may pass, whether a reply was lost behind them)"""
        passed = b""
        for reply in replies.feed(piece):
            self.replies += 1
            if self.faults.drop_reply_every and self.replies % self.faults.drop_reply_every == 0:
                self.dropped += 1
                return passed, True
            spoilt = self.faults.error_every and self.replies % self.faults.error_every == 0
            passed += self.faults.error if spoilt else reply
        return passed, False


class Replies:
    """Cuts a stream of RESP2 into its replies."""

    def __init__(self):
        self.pending = b""

    def feed(self, piece):
        self.pending += piece
        whole = []
        while True:
            end = reply_end(self.pending, 0)
            if end is None:
                return whole
            whole.append(self.pending[:end])
            self.pending = self.pending[end:]


def reply_end(data, at):
    """Where the reply that begins at `at` ends; None when it is not whole yet."""
    line_end = data.find(b"\r\n", at)
    if line_end < 0:
        return None
    kind, after = data[at: at + 1], line_end + 2
    if kind in b"+-:":
        return after
    count = int(data[at + 1: line_end])
    if kind == b"$":
        end = after if count < 0 else after + count + 2
        return end if end <= len(data) else None
    for _ in range(count):
        after = reply_end(data, after)
        if after is None:
            return None
    return after


def reset(writer):
    """Closes by RST."""
    connection = writer.get_extra_info("socket")
    if connection is not None and connection.fileno() >= 0:
        try:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        except OSError:
            pass  # closed by the peer meanwhile
    writer.transport.abort()


async def send(writer, piece, size):
    for at in range(0, len(piece), size or max(1, len(piece))):
        writer.write(piece[at: at + (size or len(piece))])
        await writer.drain()
        if size:
            await asyncio.sleep(0)
