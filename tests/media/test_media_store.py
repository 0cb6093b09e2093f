"""The media store: who sees what, what leaves, and how groups get their bytes."""

import asyncio
import gc
import hashlib
import io
import random
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from rewardhub.assembly import make_hub
from rewardhub.config import HubConfig
from rewardhub.errors import InvalidInput, TooLarge, Unavailable
from rewardhub.media.decode import images
from rewardhub.media.store import MediaLimits, MediaStore
from rewardhub.registry import Registry, verifier
from rewardhub.server import intake
from rewardhub.types import Call, Group, Media, Response, Space, Status


class Clock:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


def png(shade: int, size=(8, 6)) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", size, (shade % 256, shade // 256, 0)).save(buffer, "PNG")
    return buffer.getvalue()


def noise(seed: int, size: int) -> bytes:
    """A picture of about so many bytes."""
    side = int((size / 3) ** 0.5)
    buffer = io.BytesIO()
    Image.frombytes("RGB", (side, side), random.Random(seed).randbytes(3 * side * side)).save(buffer, "PNG")
    return buffer.getvalue()


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def test_what_is_put_comes_back_under_its_hash():
    """put gives hash and size, get gives the same bytes."""
    store = MediaStore()
    media = store.put(png(1), "a")
    assert media == Media(sha256=digest(png(1)), width=8, height=6)
    assert store.get(media.sha256, "a") == png(1)
    store.put(png(1), "a")
    assert store.stats() == {"bytes": len(png(1)), "items": 1, "evictions": 0}


def test_a_tenant_sees_only_its_own():
    """Another tenant's upload is missing, by get, missing and resolve."""
    store = MediaStore()
    sha256 = store.put(png(1), "a").sha256
    assert store.missing([sha256, sha256], "b") == [sha256]
    assert store.missing([sha256], "a") == []
    with pytest.raises(InvalidInput, match=f"{sha256} was never uploaded"):
        store.get(sha256, "b")
    with pytest.raises(InvalidInput):
        store.resolve(Group("g", media=(Media(sha256=sha256),)), "b")


def test_the_least_recently_used_leaves_first():
    """Over a tenant's quota the oldest use goes; what was touched stays."""
    size = len(png(1))
    store = MediaStore(MediaLimits(item_bytes=size, tenant_bytes=2 * size, total_bytes=4 * size))
    first, second = store.put(png(1)).sha256, store.put(png(2)).sha256
    store.get(first)
    store.put(png(3))
    assert store.missing([first, second]) == [second]
    assert store.stats()["evictions"] == 1


def test_a_flood_of_one_tenant_pushes_out_its_own():
    """When the store is full, the tenant that holds most pays."""
    size = len(png(1))
    store = MediaStore(MediaLimits(item_bytes=size, tenant_bytes=3 * size, total_bytes=4 * size))
    quiet = store.put(png(1), "quiet").sha256
    for shade in range(2, 30):
        store.put(png(shade), f"flood{shade % 2}")
    assert store.missing([quiet], "quiet") == []
    assert store.stats()["bytes"] <= 4 * size


def test_the_share_of_a_tenant_is_the_operators_to_say():
    """`media_tenant_mb` of a hub: one tenant's uploads, whoever still holds them, leave room for another's."""
    store = make_hub(HubConfig(workers=1, media_mb=2, media_tenant_mb=1)).media
    pictures = [noise(shade, 400_000) for shade in range(4)]
    held = [store.get(store.put(each, "greedy").sha256, "greedy") for each in pictures[:2]]
    with pytest.raises(Unavailable):
        store.put(pictures[2], "greedy")
    assert store.get(store.put(pictures[3], "other").sha256, "other") == pictures[3] and len(held) == 2


def test_a_sweep_lets_go_of_what_is_over_and_says_when_to_come_again():
    """Without another upload; what was used since stays, and the next search is due when its time is over."""
    clock = Clock()
    store = MediaStore(MediaLimits(ttl_s=10), clock=clock)
    assert store.sweep() == 10
    store.put(png(1), "a")
    used = store.put(png(2), "b").sha256
    clock.now = 4.0
    assert store.get(used, "b") and store.sweep() == 6
    clock.now = 10.5
    assert store.sweep() == 3.5
    assert store.stats() == {"bytes": len(png(2)), "items": 1, "evictions": 0}
    clock.now = 15.0
    assert store.sweep() == 10
    assert store.stats() == {"bytes": 0, "items": 0, "evictions": 0}


async def test_a_hub_sweeps_its_media():
    """A hub that gets no more uploads holds none of the bytes whose time to live is over."""
    hub = make_hub(HubConfig(workers=1, media_ttl_s=1), Registry())
    await hub.start()
    try:
        sha256 = hub.media.put(png(1), "a").sha256
        assert hub.media.missing([sha256], "a") == []
        async with asyncio.timeout(20):
            while hub.media.stats()["items"]:
                await asyncio.sleep(0.05)
    finally:
        await hub.aclose()


@pytest.fixture
def uncollected():
    """Nothing that lies in a cycle is let go of."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.parametrize("how", ["scored", "refused", "failed", "opened"])
async def test_a_hub_lets_go_of_what_it_has_answered(uncollected, how):
    """At once, without a search for garbage: groups one after the other never fill the store."""
    registry = Registry()

    @verifier("media_count")
    def count(response, reference, group) -> float:
        """The number of media."""
        return float(len(group.media))

    @verifier("broken")
    def broken(response, reference, group) -> float:
        """An error that its own frame holds, as many libraries' are."""
        try:
            raise ValueError("the cause")
        except ValueError as cause:
            kept = RuntimeError("the error")
            raise kept from cause

    registry.add(count)
    registry.add(broken)
    recipe = {"refused": "nobody", "failed": "broken"}.get(how, "media_count")
    hub, call = make_hub(HubConfig(workers=1), registry), Call(recipe=recipe)
    await hub.start()
    size = max(len(png(shade)) for shade in range(12))
    limits = MediaLimits(item_bytes=size, tenant_bytes=2 * size, total_bytes=2 * size)
    hub.media = MediaStore(limits, clock=Clock())
    with pytest.raises(Unavailable):  # the one search for garbage that the clock allows
        hub.media.resolve(Group("g", media=tuple(Media(data=png(shade)) for shade in range(3))))
    try:
        for shade in range(12):
            group = Group("g", responses=(Response("r"),), media=(Media(data=png(shade)),))
            if how == "opened":
                opened = hub.open(group, call)
                opened.close()
                rows = [row async for scores in opened for row in scores]
            else:
                ((*rows,),) = await intake.score(hub, [group], call, "")
            ends = {"refused": Status.INVALID_INPUT, "failed": Status.INTERNAL_ERROR}
            assert {row.status for row in rows} == {ends.get(how, Status.OK)}
    finally:
        await hub.aclose()


def test_what_only_garbage_holds_is_let_go_of(uncollected):
    """Where the store is full, what lies in a cycle is searched for, once in a while."""
    clock, size = Clock(), len(png(1))
    store = MediaStore(MediaLimits(item_bytes=size, tenant_bytes=size, total_bytes=size), clock=clock)
    for later, full in ((0.0, False), (0.5, True), (1.0, False)):
        clock.now = later
        cycle = [store.resolve(Group("g", media=(Media(data=png(1)),)))]
        cycle.append(cycle)
        del cycle
        if full:
            with pytest.raises(Unavailable):
                store.put(png(2))
        else:
            assert store.put(png(2)).sha256 == digest(png(2))


def test_unused_media_leave_after_their_time():
    """What nobody used for ttl_s is gone, what was used is not, and the bytes are given back."""
    clock = Clock()
    store = MediaStore(MediaLimits(ttl_s=10), clock=clock)
    used, unused = store.put(png(1)).sha256, store.put(png(2)).sha256
    clock.now = 8
    store.get(used)
    clock.now = 12
    assert store.missing([used, unused]) == [unused]
    store.put(png(3))
    assert store.stats() == {"bytes": len(png(1)) + len(png(3)), "items": 2, "evictions": 0}


@pytest.mark.parametrize(("limits", "message"), [({"item_bytes": 20}, "bytes, over"), ({"pixels": 47}, "pixels, over")])
def test_over_a_limit_is_too_large(limits, message):
    """Bytes and pixels of one media are limited."""
    with pytest.raises(TooLarge, match=message):
        MediaStore(MediaLimits(**limits)).put(png(1))


def test_limits_that_cannot_hold_one_media_are_refused():
    """A tenant's quota below the size of one media makes no sense."""
    with pytest.raises(ValueError, match="item_bytes <= tenant_bytes"):
        MediaLimits(item_bytes=100, tenant_bytes=50)


def test_resolve_fills_prompt_and_response_media():
    """By hash or inline, of prompt and responses: bytes and undeclared sizes are filled in."""
    store = MediaStore()
    known = store.put(png(1))
    group = Group(
        "g",
        media=(Media(sha256=known.sha256), Media(data=png(2))),
        responses=(Response("a"), Response("b", media=(Media.from_bytes(png(3)),))),
    )
    resolved = store.resolve(group)
    assert [each.data for each in resolved.media] == [png(1), png(2)]
    assert resolved.responses[0] is group.responses[0]
    assert resolved.responses[1].media[0] == Media(sha256=digest(png(3)), width=8, height=6)
    assert store.missing([digest(png(2)), digest(png(3))]) == []
    again = store.resolve(resolved)
    assert again == resolved
    assert again.media[1].data is resolved.media[1].data


def test_a_group_without_media_is_returned_as_it_is():
    """Text groups cost nothing."""
    group = Group("g", responses=(Response("a"),))
    assert MediaStore().resolve(group) is group


def test_declared_sizes_stay():
    """A declared size is the caller's frame for its coordinates, so it wins."""
    media = replace(Media.from_bytes(png(1)), width=800, height=600, space=Space.MODEL_INPUT)
    (resolved,) = MediaStore().resolve(Group("g", media=(media,))).media
    assert (resolved.width, resolved.height, resolved.space) == (800, 600, Space.MODEL_INPUT)


def test_inline_bytes_must_match_their_hash():
    """A wrong hash is named, and the bytes do not land under it."""
    store = MediaStore()
    wrong = "0" * 64
    group = Group("g", responses=(Response("r", media=(Media(sha256=wrong, data=png(1)),)),))
    with pytest.raises(InvalidInput) as caught:
        store.resolve(group)
    assert caught.value.field == "responses[0].media[0].sha256"
    assert store.missing([wrong]) == [wrong]


def test_known_hash_with_other_bytes_is_still_refused():
    """Naming a stored hash does not let other bytes pass for it."""
    store = MediaStore()
    sha256 = store.put(png(1)).sha256
    with pytest.raises(InvalidInput, match="not the hash"):
        store.resolve(Group("g", media=(Media(sha256=sha256, data=png(2)),)))


def test_an_unknown_hash_is_named_with_its_field():
    """The error says which hash, and where."""
    group = Group("g", media=(Media(data=png(1)), Media(sha256="f" * 64)))
    with pytest.raises(InvalidInput, match="f{64} was never uploaded") as caught:
        MediaStore().resolve(group)
    assert caught.value.field == "media[1].sha256"


def test_an_unusable_inline_image_is_named():
    """The field of an inline GIF or oversize image is named, its kind of error kept."""
    store = MediaStore(MediaLimits(pixels=40))
    with pytest.raises(InvalidInput, match=r"media\[0\]: the media is GIF"):
        store.resolve(Group("g", media=(Media(data=b"GIF89a..."),)))
    with pytest.raises(TooLarge, match=r"media\[0\]: the PNG is 8 x 6"):
        store.resolve(Group("g", media=(Media(data=png(1)),)))


def test_videos_are_resolved_frame_by_frame():
    """A video's frames come from the store in order; bytes that came along are never believed."""
    store = MediaStore()
    frames = tuple(store.put(png(shade)).sha256 for shade in (1, 2, 1))
    video = Media(kind="video", frames=frames, fps=2.0, data=b"not frames")
    (resolved,) = store.resolve(Group("g", media=(video,))).media
    shown = [image.getpixel((0, 0)) for image in images(resolved)]
    assert shown == [(1, 0, 0), (2, 0, 0), (1, 0, 0)]
    assert (resolved.width, resolved.height, resolved.fps) == (8, 6, 2.0)


@pytest.mark.parametrize("frames", [(), ("a" * 64,) * 3, ("e" * 64,)])
def test_unusable_videos_are_refused(frames):
    """No frame, too many frames and a frame never uploaded are invalid input."""
    store = MediaStore(MediaLimits(frames=2))
    with pytest.raises(InvalidInput) as caught:
        store.resolve(Group("g", media=(Media(kind="video", frames=frames),)))
    assert caught.value.field.startswith("media")


def test_images_and_frames_of_one_conversation_are_counted():
    """What a prompt or one response shows in all is bounded; it is refused before anything is looked for or asked for."""
    store = MediaStore(MediaLimits(frames=4))
    sha256 = store.put(png(1)).sha256
    video, unknown = Media(kind="video", frames=(sha256,) * 3), Media(kind="video", frames=("e" * 64,) * 10_000)
    fits = Group("g", media=(video, Media(sha256)), responses=(Response("r", media=(Media(sha256),) * 4),))
    assert len(store.resolve(fits).media[0].frame_data) == 3
    for media in ((video, video), (Media(sha256),) * 5, (unknown,)):
        with pytest.raises(InvalidInput, match="media shows .* images and frames, at most 4") as caught:
            store.resolve(replace(fits, responses=(Response("r"), Response("s", media=media))))
        assert caught.value.field == "responses[1].media"
    assert store.lacking(replace(fits, media=(unknown,))) == []
    assert store.lacking(replace(fits, media=(Media("f" * 64),))) == ["f" * 64]


def test_what_the_store_has_no_room_for_is_unavailable_while_groups_hold_it():
    """R17: media of groups that are being scored are never pushed out, nor forgotten: no group holds more than counts."""
    clock, size = Clock(), max(len(png(shade)) for shade in range(6))
    limits = MediaLimits(item_bytes=size, tenant_bytes=2 * size, total_bytes=3 * size, ttl_s=10)
    store = MediaStore(limits, clock=clock)
    scored = store.resolve(Group("g", media=(Media(data=png(1)), Media(data=png(2)))), "a")
    clock.now = 100.0
    store.sweep()
    for data in (png(3), png(4)):
        with pytest.raises(Unavailable) as caught:
            store.resolve(Group("h", media=(Media(data=data),)), "a")
        assert (caught.value.field, caught.value.retry_after_s) == ("media[0]", 1.0)
    assert store.put(png(3), "b").sha256 == digest(png(3))
    other = store.resolve(Group("g", media=(Media(data=png(4)),)), "b")  # b's own first is pushed out
    assert store.missing([digest(png(3))], "b")
    with pytest.raises(Unavailable):
        store.put(png(5), "c")
    assert store.resolve(scored, "a").media[0].data is scored.media[0].data
    del scored
    store.put(png(5), "c")
    assert store.stats()["items"] == 3
    assert other.media[0].data == png(4)


def test_a_response_may_name_what_its_prompt_brought():
    """One message holds an image's bytes once: for the prompt, by its hash for responses and as a frame."""
    image = Media.from_bytes(png(1))
    again = Media(image.sha256), Media(kind="video", frames=(image.sha256,) * 2)
    group = Group("g", media=(image,), responses=(Response("a"), Response("b", media=again)))
    store = MediaStore()
    assert store.lacking(group) == []
    first, video = store.resolve(group).responses[1].media
    assert (first.data, video.frame_data) == (png(1), (png(1),) * 2)


def test_what_the_caller_keeps_is_not_held():
    """A program that has a hub in it keeps its own images as long as it likes: the store has a copy that may leave."""
    kept = [Media.from_bytes(png(shade)) for shade in range(5)]
    size = len(png(1))
    store = MediaStore(MediaLimits(item_bytes=size, tenant_bytes=2 * size, total_bytes=2 * size))
    for media in kept:
        assert store.resolve(Group("g", media=(media,))).media[0].data == media.data
    assert store.stats() == {"bytes": 2 * size, "items": 2, "evictions": 3}


def test_what_a_group_lacks_are_the_hashes_to_upload():
    """Hashes of prompt, responses and frames, without those whose bytes came along."""
    group = Group(
        "g",
        media=(Media(sha256="a" * 64), Media.from_bytes(png(1))),
        responses=(Response("r", media=(Media(kind="video", frames=("b" * 64, "c" * 64)),)),),
    )
    assert MediaStore().lacking(group) == ["a" * 64, "b" * 64, "c" * 64]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 12), st.integers(0, 4)), max_size=60))
def test_the_books_balance(steps):
    """After any sequence of puts, reads and pauses the byte count is the sum and under its limits."""
    clock = Clock()
    limits = MediaLimits(item_bytes=100, tenant_bytes=250, total_bytes=400, ttl_s=6)
    store = MediaStore(limits, clock=clock)
    for tenant, shade, pause in steps:
        clock.now += pause
        sha256 = store.put(png(shade), tenant).sha256
        assert store.get(sha256, tenant) == png(shade)
        held = {name: sum(len(e.data) for e in shelf.entries.values()) for name, shelf in store._shelves.of.items()}
        assert store.stats()["bytes"] == sum(held.values()) <= 400
        assert all(size <= 250 for size in held.values())


def test_threads_share_one_store():
    """Puts and reads from eight threads at once lose nothing and keep the books."""
    from concurrent.futures import ThreadPoolExecutor

    size = len(png(1))
    store = MediaStore(MediaLimits(item_bytes=size, tenant_bytes=20 * size, total_bytes=40 * size))

    def work(worker: int) -> int:
        wrong = 0
        for step in range(300):
            data = png((worker + step) % 30)
            sha256 = store.put(data, f"t{worker % 3}").sha256
            wrong += sha256 != digest(data)
            if store.missing([sha256], f"t{worker % 3}") == []:
                try:
                    wrong += store.get(sha256, f"t{worker % 3}") != data
                except InvalidInput:
                    pass  # evicted in between
        return wrong

    with ThreadPoolExecutor(8) as threads:
        assert sum(threads.map(work, range(8))) == 0
    held = sum(len(entry.data) for shelf in store._shelves.of.values() for entry in shelf.entries.values())
    assert store.stats()["bytes"] == held <= 40 * size


def test_inline_bytes_get_their_hash():
    """Keys of the cache hold the hash: two images of one size are not taken for one another."""
    first, second = (
        MediaStore().resolve(Group("g", media=(Media(data=png(shade)),))).media[0].sha256 for shade in (1, 2)
    )
    assert (first, second) == (digest(png(1)), digest(png(2)))


def test_frames_are_shared_however_often_they_are_named():
    """Videos of any number of groups hold the store's own bytes, also once they are resolved again (R17)."""
    store = MediaStore()
    names = tuple(store.put(png(shade)).sha256 for shade in range(8))
    group = Group("g", media=(Media(kind="video", frames=names),))
    stored = {id(store.get(name)) for name in names}
    for _ in range(3):
        resolved = store.resolve(group)
        (video,) = resolved.media
        assert {id(data) for data in video.frame_data} == stored
        assert video.data is None
        assert store.resolve(resolved).media[0] is video


def test_media_of_a_group_are_bounded_together():
    """R17: what a prompt or a response shows counts as often as it is shown, a group's media once each."""
    size = len(png(1))
    store = MediaStore(MediaLimits(group_bytes=10 * size))
    names = [store.put(png(shade)).sha256 for shade in range(12)]
    video = Media(kind="video", frames=(names[0],) * 5)
    store.resolve(Group("g", media=(video, video), responses=(Response("r", media=(video,)),) * 9))
    with pytest.raises(TooLarge, match=r"^responses\[1\].media shows \d+ bytes, over the limit") as caught:
        store.resolve(Group("g", responses=(Response("r"), Response("s", media=(video, video, Media(names[1]))))))
    assert caught.value.field == "responses[1].media"
    with pytest.raises(TooLarge, match="the media of the group have"):
        store.resolve(Group("g", responses=tuple(Response("r", media=(Media(name),)) for name in names)))
