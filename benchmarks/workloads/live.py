"""A call's worth of video and sound, to many: what it takes to keep up."""

from __future__ import annotations

import asyncio

from ..arrivals import HELLO, all_arrived, all_ready, meanwhile
from ..channel import Channel
from ..contender import Contender, GroupWriter, TrackWriter, Window
from ..sessions import connected, reading
from ..stamped import Stamped, paced, stamp
from ..task import Pace, Paced
from ..usage import ProcessorTime
from ..workload import Metric, Report, Workload

__all__ = ["Live"]

_FRAMES_PER_SECOND = 30
_FRAMES_PER_GROUP = 60
_BYTES_PER_GROUP = 1_000_000
_KEY_FRAME = 100_000
_OTHER_FRAME = (_BYTES_PER_GROUP - _KEY_FRAME) // (_FRAMES_PER_GROUP - 1)
"""4 Mbit/s in groups of two seconds."""

_SOUND_PER_SECOND = 50
_SOUND_FRAME = 160

_LATE = 0.1
"""Seconds after which a frame is late: what a player keeps in its buffer."""

_TRACKS = ("video", "sound")


class Live(Workload):
    """Video of 1080p's size, and sound whose frames are each a group, to subscribers in one process."""

    name = "live"

    def __init__(self, subscribers: int, seconds: float) -> None:
        self.seconds = seconds
        self._subscribers = subscribers
        video = Pace("video", _FRAMES_PER_SECOND, _OTHER_FRAME, _FRAMES_PER_GROUP, _KEY_FRAME)
        self.task = Paced(subscribers, (video, Pace("sound", _SOUND_PER_SECOND, _SOUND_FRAME)), seconds)
        label = f"live video and sound to {subscribers}"
        self.metrics = (
            Metric("publisher_processor", f"{label}: publisher's processor time", "% of a core"),
            Metric("subscriber_processor", f"{label}: subscribers' processor time", "% of a core"),
            Metric("late", f"{label}: frames over {_LATE * 1000:.0f} ms late", "%"),
        )

    async def publish(self, contender: Contender, channel: Channel) -> Report:
        async with contender.publisher(channel) as publisher:
            window = Window(2, 2 * _BYTES_PER_GROUP)
            video, sound = await publisher.publish(_TRACKS, window, self._subscribers)
            for track in (video, sound):
                await track.write_group([HELLO])
            channel.tell("address", address=publisher.address)
            await channel.hear("ready")
            processor = ProcessorTime()
            pictures, sounds = await asyncio.gather(self._write_video(video), self._write_sound(sound))
            channel.tell("written", video=pictures, sound=sounds)
            await channel.hear("arrived")
            return {"processor": processor.seconds}

    async def _write_video(self, track: TrackWriter) -> int:
        group: GroupWriter | None = None
        written = 0
        async for index in paced(_FRAMES_PER_SECOND, self.seconds):
            key = index % _FRAMES_PER_GROUP == 0
            if key or group is None:
                if group is not None:
                    group.finish()
                group = track.begin_group()
            group.write(stamp(index, _KEY_FRAME if key else _OTHER_FRAME))
            written += 1
        if group is not None:
            group.finish()
        return written

    async def _write_sound(self, track: TrackWriter) -> int:
        written = 0
        async for index in paced(_SOUND_PER_SECOND, self.seconds):
            track.send(stamp(index, _SOUND_FRAME))
            written += 1
        return written

    async def subscribe(self, contender: Contender, channel: Channel) -> Report:
        address = (await channel.hear("address"))["address"]
        async with connected(contender, channel, address, self._subscribers) as subscribers:
            readers = [(name, await each.subscribe(name)) for each in subscribers for name in _TRACKS]
            frames = [(name, Stamped(), reader) for name, reader in readers]
            arrivals = [stamped for _, stamped, _ in frames]
            async with reading(reader.frames(stamped.take) for _, stamped, reader in frames) as tasks:
                await all_ready(arrivals, tasks)
                channel.tell("ready")
                processor = ProcessorTime()
                written = await meanwhile(channel.hear("written"), tasks)
                for name, stamped, _ in frames:
                    stamped.expect(written[name])
                await all_arrived(arrivals, tasks)
                spent = processor.seconds
                channel.tell("arrived")
        delays = [delay for stamped in arrivals for delay in stamped.delays]
        return {"processor": spent, "delays": delays}

    def numbers(self, published: Report, subscribed: Report) -> dict[str, float]:
        delays = subscribed["delays"]
        return {
            "publisher_processor": published["processor"] / self.seconds * 100,
            "subscriber_processor": subscribed["processor"] / self.seconds * 100,
            "late": sum(delay > _LATE for delay in delays) / len(delays) * 100,
        }
