"""Members of zip files of others: bombs, encryption and odd compression are refused."""

from __future__ import annotations

import zipfile

ENCRYPTED = 0x1  # bit of the general purpose flags; APPNOTE.TXT, section 4.4.4
METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # others unpack without a bound


class ZipMemberError(ValueError):
    """A member cannot be used; the text goes on after its name."""


def read_member(archive: zipfile.ZipFile, name: str | zipfile.ZipInfo, max_bytes: int) -> bytes:
    """The unpacked content of a member; its checksum is compared.

    KeyError where there is no such member. ZipMemberError where it is damaged, encrypted, of
    another compression than stored and deflated, or larger than `max_bytes` when unpacked.
    """
    info = name if isinstance(name, zipfile.ZipInfo) else archive.getinfo(name)
    check_member(info, max_bytes)
    try:
        with archive.open(info) as member:
            # With the size, zipfile unpacks no more than that, whatever the compressed data hold.
            content = member.read(info.file_size)
            is_longer = bool(member.read(1))
    except Exception as error:  # zipfile and zlib raise many kinds for damaged members
        raise ZipMemberError(f"is damaged in the zip ({error})") from error

    if len(content) != info.file_size or is_longer:
        raise ZipMemberError(
            f"is damaged in the zip ({len(content)} of {info.file_size} bytes are there)"
        )
    return content


def check_member(info: zipfile.ZipInfo, max_bytes: int) -> None:
    """ZipMemberError where a member is encrypted, oddly compressed or too large."""
    if info.flag_bits & ENCRYPTED:
        raise ZipMemberError("is encrypted in the zip")
    if info.compress_type not in METHODS:
        raise ZipMemberError(
            f"is compressed by method {info.compress_type} in the zip; stored and deflated are read"
        )
    if info.file_size > max_bytes:
        raise ZipMemberError(
            f"has {info.file_size} bytes when unpacked, the limit is {max_bytes / 2**20:g} MB"
        )
