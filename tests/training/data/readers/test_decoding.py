"""Images become 8-bit pixels without loss where that is agreed, and are refused by name where it is not."""

import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ndrepro.protocol.errors import DataError
from ndrepro.training.data.readers.decoding import check_whole, decode, open_image

PATH = Path("folder/x.png")
SIDE = 8
COLOURS = np.random.RandomState(0).randint(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
GREY = COLOURS[:, :, 0]
RGB, L = Image.fromarray(COLOURS), Image.fromarray(GREY)


def encoded(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png(bits: int, colour: int, raw: bytes, side: tuple[int, int] = (SIDE, SIDE), *more: bytes) -> bytes:
    """A PNG written by hand: Pillow writes no colours of 16 bits."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", *side, bits, colour, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(more) + chunk(b"IDAT", zlib.compress(raw)) + chunk(b"IEND", b"")


def rows(array: np.ndarray) -> bytes:
    return b"".join(b"\0" + row.astype(">u2").tobytes() for row in array)


def alpha(values: np.ndarray) -> Image.Image:
    return Image.fromarray(np.dstack([COLOURS, values]))


OPAQUE = np.full((SIDE, SIDE), 255, np.uint8)
SHEER = np.where(np.arange(SIDE) == 3, 254, OPAQUE).astype(np.uint8)

EXACT_COLOURS = {
    "png": encoded(RGB),
    "bmp": encoded(RGB, "BMP"),
    "webp": encoded(RGB, "WEBP", lossless=True),
    "tiff": encoded(RGB, "TIFF"),
    "ppm": encoded(RGB, "PPM"),
    "opaque alpha": encoded(alpha(OPAQUE)),
    "opaque webp": encoded(alpha(OPAQUE), "WEBP", lossless=True),
    "16-bit colours": png(16, 2, rows(COLOURS.reshape(SIDE, -1).astype(np.uint16) * 257)),
    "orientation in EXIF": encoded(RGB, exif=b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"),
    "ICC profile": encoded(RGB, icc_profile=b"any"),
}
EXACT_GREY = {
    "png": encoded(L),
    "gif": encoded(L, "GIF"),
    "pgm": encoded(L, "PPM"),
    "grey with opaque alpha": encoded(L.convert("LA")),
    "16-bit grey": encoded(Image.fromarray(GREY.astype(np.uint16) * 257)),
    "16-bit grey, lower bytes": encoded(Image.fromarray(GREY.astype(np.uint16) * 256 + 255)),
    "16-bit grey and alpha": png(
        16, 4, rows(np.dstack([GREY * np.uint16(257), OPAQUE * np.uint16(257)]).reshape(8, -1))
    ),
    "in colours": encoded(L.convert("RGB")),
    "palette": encoded(L.convert("P")),
}


@pytest.mark.parametrize("kind", EXACT_COLOURS)
def test_colours_come_as_they_are_stored(kind: str) -> None:
    assert (decode(PATH, EXACT_COLOURS[kind], 3, SIDE) == COLOURS.transpose(2, 0, 1)).all()
    check_whole(PATH, EXACT_COLOURS[kind])


@pytest.mark.parametrize("kind", EXACT_GREY)
def test_grey_comes_as_it_is_stored_also_as_colours(kind: str) -> None:
    assert (decode(PATH, EXACT_GREY[kind], 1, SIDE) == GREY).all()
    assert (decode(PATH, EXACT_GREY[kind], 3, SIDE) == GREY).all()


def test_black_and_white_and_cmyk() -> None:
    bilevel = decode(PATH, encoded(L.convert("1", dither=Image.Dither.NONE)), 1, SIDE)
    assert (bilevel == np.where(GREY > 127, 255, 0)).all()
    cmyk = decode(PATH, encoded(RGB.convert("CMYK"), "TIFF"), 3, SIDE)
    assert np.abs(cmyk.transpose(1, 2, 0).astype(int) - COLOURS).max() <= 1


def test_a_palettes_transparency_counts_where_it_is_used() -> None:
    palette = L.convert("P")
    unused = int(np.setdiff1d(np.arange(256), np.asarray(palette))[0])
    assert (decode(PATH, encoded(palette, transparency=unused), 1, SIDE) == GREY).all()
    with pytest.raises(DataError, match="transparent pixels"):
        decode(PATH, encoded(palette, transparency=int(np.asarray(palette)[0, 0])), 1, SIDE)


def frames(kind: str) -> bytes:
    more = {"append_images": [RGB.rotate(90)], "save_all": True}
    return encoded(RGB, kind, **more)


REFUSED = {
    "floating point": (encoded(Image.fromarray(GREY.astype(np.float32)), "TIFF"), "TIFF with pixels of mode F"),
    "32 bits": (encoded(Image.fromarray(GREY.astype(np.int32)), "TIFF"), "TIFF with pixels of mode I,"),
    "16-bit tiff": (encoded(Image.fromarray(GREY * np.uint16(16)), "TIFF"), "TIFF with pixels of mode I;16"),
    "16-bit pgm": (b"P5 1 1 4095\n\x0f\xff", "PPM with pixels of mode I,"),
    "transparent": (encoded(alpha(SHEER)), "transparent pixels"),
    "transparent grey": (encoded(L, transparency=int(GREY[2, 2])), "transparent pixels"),
    "transparent 16-bit grey": (
        png(16, 0, rows(GREY * np.uint16(257)), (SIDE, SIDE), chunk(b"tRNS", b"\0\0")),
        "PNG with pixels of mode I;16",
    ),
    "gif of two frames": (frames("GIF"), "2 frames"),
    "png of two frames": (frames("PNG"), "2 frames"),
    "webp of two frames": (frames("WEBP"), "2 frames"),
    "tiff of two pages": (frames("TIFF"), "2 frames"),
    "empty": (b"", "not a whole image .in no format that is read"),
    "text": (b"<html>404</html>", "not a whole image .in no format that is read"),
    "a program": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n", "in no format that is read"),
    "cut in the header": (encoded(RGB)[:20], "not a whole image"),
    "cut in the pixels": (encoded(RGB)[:90], "not a whole image"),
    "half a jpeg": (encoded(RGB, "JPEG")[:-60], "not a whole image"),
    "a chunk too short": (png(8, 2, b"", (SIDE, SIDE), chunk(b"pHYs", b"\0")), "not a whole image .Truncated pHYs"),
    "a ValueError": (
        png(8, 2, b"", (SIDE, SIDE), chunk(b"zTXt", b"k\0\0" + zlib.compress(bytes(2 << 20)))),
        "not a whole image .Decompressed data too large",
    ),
    "a bomb": (png(8, 2, b"", (30000, 30000)), "not a whole image .Image size .900000000 pixels. exceeds"),
    "a large one": (png(8, 2, b"", (10000, 10000)), "10000x10000 pixels, more than"),
}


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("kind", REFUSED)
@pytest.mark.parametrize("check", [open_image, check_whole])
def test_what_has_no_agreed_meaning_or_is_damaged_is_refused_by_name(kind: str, check: Callable[..., object]) -> None:
    content, said = REFUSED[kind]
    with pytest.raises(DataError, match=f"^folder/x.png: .*{said}") as refused:
        check(PATH, content)
    assert refused.value.cure and " at 0x" not in refused.value.message, (
        "no address of this process in a signed message"
    )


def test_a_wrong_size_is_said_before_anything_is_decoded() -> None:
    with pytest.raises(DataError, match=r"x\.png: 20000x4 pixels, expected 8x8"):
        decode(PATH, png(8, 2, b"", (20000, 4)), 3, SIDE)


def thumbnailed() -> bytes:
    """A JPEG as a camera writes it: a whole JPEG in its header, then its own pixels."""
    photograph = np.random.RandomState(1).randint(0, 256, (64, 64, 3), dtype=np.uint8)
    jpeg, small = encoded(Image.fromarray(photograph), "JPEG"), encoded(RGB, "JPEG")
    return jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(small) + 8) + b"Exif\0\0" + small + jpeg[2:]


def test_a_jpeg_is_whole_from_its_start_to_its_own_end() -> None:
    whole = thumbnailed()
    assert open_image(PATH, whole).size == (64, 64)
    for padding in (b"", bytes(5), b"\xff\xda trailing"):
        check_whole(PATH, whole + padding)
    check_whole(PATH, encoded(RGB, "JPEG", progressive=True))
    check_whole(PATH, encoded(RGB, "JPEG", restart_marker_blocks=1))
    header = whole.rindex(b"\xff\xda")
    for end in (header - 100, header, header + 20, len(whole) // 2, len(whole) - 2):
        with pytest.raises(DataError, match=r"folder/x\.png: not a whole image"):
            check_whole(PATH, whole[:end])


def test_the_further_pictures_of_a_camera_are_not_frames() -> None:
    smooth = Image.linear_gradient("L").convert("RGB")
    content = encoded(smooth, "MPO", save_all=True, append_images=[smooth.rotate(90)])
    read = np.asarray(open_image(PATH, content)).astype(int)
    assert np.abs(read - np.asarray(smooth)).mean() < 2
    check_whole(PATH, content)
