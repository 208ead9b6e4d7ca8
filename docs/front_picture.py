"""Writes docs/front.png, the picture of the README, from two of MNIST: python docs/front_picture.py."""

import pathlib

from PIL import Image, ImageDraw, ImageFont

DOCS = pathlib.Path(__file__).parent
CELL = 29  # pixels of a digit and the line behind it; the samples are drawn at twice that
ROWS = 4  # masks
PANEL = 10 * CELL + 1  # ten digits
MARGIN = 24
TITLE = 26


def panels() -> list[Image.Image]:
    """The three of the picture of in-painting: digits, what is shown of them, what was filled."""
    picture = Image.open(DOCS / "mnist_inpainting.png").convert("RGB")
    gap = (picture.width - 3 * PANEL) // 2
    height = ROWS * CELL + 1
    found = []
    for number in range(3):
        left = number * (PANEL + gap)
        found.append(picture.crop((left, 0, left + PANEL, height)))
    digits = found[0].crop((0, 0, PANEL, CELL + 1))  # the same in each row
    return [digits, *found[1:]]


def main() -> None:
    """Puts samples on the left, in-painting on the right."""
    samples = Image.open(DOCS / "mnist_samples.png").convert("RGB")
    right = []
    for panel in panels():
        right.append(panel.resize((2 * panel.width, 2 * panel.height), Image.Resampling.NEAREST))
    height = max(samples.height, sum(panel.height for panel in right) + 2 * TITLE)
    width = samples.width + MARGIN + right[0].width
    page = Image.new("RGB", (width + 2 * MARGIN, height + TITLE + 2 * MARGIN), "white")
    draw = ImageDraw.Draw(page)
    font = ImageFont.load_default(size=17)

    def put(title: str, picture: Image.Image, left: int, top: int) -> int:
        draw.text((left, top), title, fill="#222222", font=font)
        page.paste(picture, (left, top + TITLE))
        return top + TITLE + picture.height

    put("samples", samples, MARGIN, MARGIN)
    left = 2 * MARGIN + samples.width
    top = MARGIN
    for title, panel in zip(("held-out digits", "hidden in part", "filled"), right, strict=True):
        top = put(title, panel, left, top)
    page.quantize(64).save(DOCS / "front.png", optimize=True)


if __name__ == "__main__":
    main()
