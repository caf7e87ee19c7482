"""The installation's one master key, and the keys derived from it: sealing, signing, checksums, page tokens."""

from __future__ import annotations

import hashlib
import hmac
import os
import stat
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

KEY_BYTES = 32
_NONCE_BYTES = 12


class MasterKeyError(Exception):
    """The master key cannot be had or does not fit; the message says what to do."""


class MasterKey:
    """32 random bytes. Whoever has them and the database can read every secret."""

    def __init__(self, key: bytes) -> None:
        if len(key) != KEY_BYTES:
            raise MasterKeyError(
                f"the master key must be {KEY_BYTES} bytes ({KEY_BYTES * 2} hex digits), not {len(key)}"
            )
        self._key = key

    def __repr__(self) -> str:
        return "MasterKey(***)"

    @classmethod
    def from_hex(cls, text: str) -> MasterKey:
        try:
            return cls(bytes.fromhex(text.strip()))
        except ValueError as error:
            raise MasterKeyError("the master key is not hexadecimal") from error

    @classmethod
    def from_file(cls, path: Path) -> MasterKey:
        """Reads the key file; makes it (mode 0600) where there is none.

        Raises:
            MasterKeyError: others may read the file, or it does not hold a key.
        """
        if not path.exists():
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "w") as file:
                file.write(os.urandom(KEY_BYTES).hex() + "\n")
                file.flush()
                os.fsync(file.fileno())
        mode = stat.S_IMODE(path.stat().st_mode)
        if mode & 0o077:
            raise MasterKeyError(f"{path} has mode {mode:04o}: others may read it; run `chmod 600 {path}`")
        return cls.from_hex(path.read_text())

    @property
    def fingerprint(self) -> str:
        """Tells keys apart and nothing else about them."""
        return self.derive("fingerprint").hex()

    def derive(self, purpose: str) -> bytes:
        """32 bytes that belong to this purpose alone (HKDF-SHA256, RFC 5869)."""
        return HKDF(algorithm=SHA256(), length=32, salt=None, info=f"interlock/{purpose}".encode()).derive(
            self._key
        )


def checksum_key(master: MasterKey) -> str:
    """Of checksums of secrets, and of `sanitized` in policies: both show the same hash of the same value."""
    return master.derive("checksum").hex()


class Sealer:
    """AES-256-GCM: a 12-byte random nonce, then ciphertext and tag. `context` binds a value to its place."""

    def __init__(self, master: MasterKey) -> None:
        self._cipher = AESGCM(master.derive("seal"))
        self._checksum_key = checksum_key(master).encode()

    def seal(self, plain: bytes, *, context: str) -> bytes:
        nonce = os.urandom(_NONCE_BYTES)
        return nonce + self._cipher.encrypt(nonce, plain, context.encode())

    def open(self, sealed: bytes, *, context: str) -> bytes:
        """Raises MasterKeyError where the key is another, or the value was changed or moved."""
        try:
            return self._cipher.decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], context.encode())
        except InvalidTag as error:
            raise MasterKeyError(
                f"cannot open what is stored at {context}: another master key, or it was changed"
            ) from error

    def checksum(self, value: bytes) -> str:
        """A keyed hash, 16 hex digits: tells whether two secrets are the same, not what they are."""
        return hmac.new(self._checksum_key, value, hashlib.sha256).hexdigest()[:16]
