"""How tests damage files."""


def flip(file, at):
    """Flip a bit of the byte there."""
    content = bytearray(file.read_bytes())
    content[at] ^= 0x01
    file.write_bytes(bytes(content))
