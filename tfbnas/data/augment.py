"""Images to network input, and the random changes of training, all stateless.

The network's input is x / 127.5 - 1, in [-1, 1]: zero is the middle grey.
"""

from __future__ import annotations

import tensorflow as tf


def normalise(images: tf.Tensor) -> tf.Tensor:
    """Pixels 0..255 of any type to float32 in [-1, 1]."""
    return tf.cast(images, tf.float32) / 127.5 - 1.0


def pad_crop_flip(images: tf.Tensor, seed: tf.Tensor, *, padding: int = 4) -> tf.Tensor:
    """Pads with zeros after normalisation (middle grey), crops at random to the old size, mirrors every second image.

    One gather for the whole batch: no image is handled by itself.

    Args:
      images: uint8 [n, height, width, channels].
      seed: int [2]; equal seeds give equal results.
      padding: Pixels on each side; the crop moves by at most this many.

    Returns:
      float32 [n, height, width, channels] in [-1, 1].
    """
    n, height, width = tf.shape(images)[0], tf.shape(images)[1], tf.shape(images)[2]
    down, right, mirrored = crop_and_flip(n, seed, padding=padding)
    rows = tf.range(height)[None, :] + down[:, None]
    columns = tf.range(width)[None, :]
    columns = tf.where(mirrored[:, None], width - 1 - columns, columns) + right[:, None]
    inside_rows = (rows >= 0) & (rows < height)
    inside_columns = (columns >= 0) & (columns < width)
    rows = tf.clip_by_value(rows, 0, height - 1) + height * tf.range(n)[:, None]
    columns = tf.clip_by_value(columns, 0, width - 1)
    pixels = tf.reshape(images, [n * height * width, images.shape[3]])
    cropped = tf.gather(pixels, rows[:, :, None] * width + columns[:, None, :])
    inside = tf.cast(inside_rows[:, :, None] & inside_columns[:, None, :], tf.float32)[..., None]
    return tf.ensure_shape(normalise(cropped) * inside, images.shape)


def flip(images: tf.Tensor, labels: tf.Tensor, seed: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Mirrors every second image from left to right, and its label map with it.

    Args:
      images: uint8 [n, height, width, channels].
      labels: [n, height, width], a class for each pixel.
      seed: int [2]; equal seeds give equal results.

    Returns:
      float32 [n, height, width, channels] in [-1, 1], and the labels.
    """
    mirrored = tf.random.stateless_uniform([tf.shape(images)[0]], seed) < 0.5
    images = tf.where(mirrored[:, None, None, None], tf.reverse(images, [2]), images)
    return normalise(images), tf.where(mirrored[:, None, None], tf.reverse(labels, [2]), labels)


def cutout(images: tf.Tensor, seed: tf.Tensor, *, size: int) -> tf.Tensor:
    """Lays a square of middle grey on each image; its centre is any pixel, so that part of it may lie outside.

    Source: DeVries & Taylor, "Improved Regularization of Convolutional Neural Networks with Cutout", 2017.

    Args:
      images: float [n, height, width, channels] in [-1, 1].
      seed: int [2]; equal seeds give equal results.
      size: Side of the square, pixels.

    Returns:
      As `images`.
    """
    shape = tf.shape(images)
    numbers = tf.random.stateless_uniform([2, shape[0]], seed)

    def covered(number: tf.Tensor, extent: tf.Tensor) -> tf.Tensor:
        first = tf.cast(number * tf.cast(extent, tf.float32), tf.int32) - size // 2
        places = tf.range(extent)[None, :]
        return (places >= first[:, None]) & (places < first[:, None] + size)

    square = covered(numbers[0], shape[1])[:, :, None] & covered(numbers[1], shape[2])[:, None, :]
    return tf.where(square[..., None], tf.zeros((), images.dtype), images)


def crop_and_flip(n: int | tf.Tensor, seed: tf.Tensor, *, padding: int) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """The random numbers of `pad_crop_flip`: shifts down and right in [-padding, padding], and who is mirrored.

    Returns:
      int32 [n], int32 [n], bool [n]. The crop's pixel (y, x) is the image's (y + down, x + right), where mirroring
      counts x from the right edge of the crop.
    """
    numbers = tf.random.stateless_uniform([3, n], seed)
    shifts = tf.cast(numbers[:2] * float(2 * padding + 1), tf.int32) - padding
    return shifts[0], shifts[1], numbers[2] < 0.5


def fit(image: tf.Tensor, size: int | tuple[int, int], *, margin: float = 1.0, method: str = "bilinear") -> tf.Tensor:
    """Scales an image until it just covers `size * margin`, and cuts the middle of `size` out.

    Args:
      image: [height, width, channels], any size.
      size: Side of the result, or its height and width, pixels.
      margin: 256 / 224 is the usual one for testing on ImageNet.
      method: "nearest" for label maps, which must not be averaged. Default: "bilinear".

    Returns:
      float32 [height, width, channels], 0..255.
    """
    height, width = (size, size) if isinstance(size, int) else size
    shape, covered = tf.shape(image)[:2], tf.constant([round(height * margin), round(width * margin)])
    scale = tf.reduce_max(covered / shape)
    scaled = tf.maximum(tf.cast(tf.round(tf.cast(shape, scale.dtype) * scale), tf.int32), covered)
    # Without antialiasing a strong reduction picks single pixels.
    image = tf.image.resize(image, scaled, method=method, antialias=True)
    top, left = (scaled[0] - height) // 2, (scaled[1] - width) // 2
    image = image[top : top + height, left : left + width]
    return tf.clip_by_value(tf.ensure_shape(image, [height, width, image.shape[2]]), 0.0, 255.0)


def random_resized_crop(encoded: tf.Tensor, size: int, channels: int, seed: tf.Tensor) -> tf.Tensor:
    """A random part of 8 to 100 % of the area, aspect ratio 3/4 to 4/3, scaled to `size`, mirrored half of the time.

    Of a JPEG only that part is decoded.

    Args:
      encoded: A JPEG, PNG, GIF or BMP file, scalar string.
      size: Side of the result, pixels.
      channels: 1 or 3.
      seed: int [2].

    Returns:
      float32 [size, size, channels], 0..255.
    """

    def window(shape: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        begin, extent, _ = tf.image.stateless_sample_distorted_bounding_box(
            shape,
            bounding_boxes=tf.zeros([1, 0, 4]),
            seed=seed,
            aspect_ratio_range=(3 / 4, 4 / 3),
            area_range=(0.08, 1.0),
            use_image_if_no_bounding_boxes=True,
        )
        return begin, extent

    def from_jpeg() -> tf.Tensor:
        begin, extent = window(tf.io.extract_jpeg_shape(encoded))
        return tf.io.decode_and_crop_jpeg(encoded, tf.concat([begin[:2], extent[:2]], 0), channels=channels)

    def from_other() -> tf.Tensor:
        image = tf.io.decode_image(encoded, channels=channels, expand_animations=False)
        return tf.slice(image, *window(tf.shape(image)))

    image = tf.cond(tf.io.is_jpeg(encoded), from_jpeg, from_other)
    image = tf.image.resize(tf.ensure_shape(image, [None, None, channels]), [size, size], antialias=True)
    image = tf.cond(
        tf.random.stateless_uniform([], tf.random.fold_in(seed, 1)) < 0.5, lambda: tf.reverse(image, [1]), lambda: image
    )
    return tf.clip_by_value(tf.ensure_shape(image, [size, size, channels]), 0.0, 255.0)
