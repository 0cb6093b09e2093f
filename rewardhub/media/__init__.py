"""Images and videos: the store they are uploaded to once, and the guarded decode.

Bytes are untrusted. Everything is decided from the header before a pixel is decoded, and only PNG,
JPEG and WebP decoders are ever reached.
"""
